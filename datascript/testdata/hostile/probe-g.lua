-- There is no table of globals.
_G.print = nil
