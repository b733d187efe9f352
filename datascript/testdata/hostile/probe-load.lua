-- There is no compiler.
loadstring("while true do end")()
