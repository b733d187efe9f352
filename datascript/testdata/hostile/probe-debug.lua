-- There is no debug library.
debug.sethook(nil) debug.getregistry()
