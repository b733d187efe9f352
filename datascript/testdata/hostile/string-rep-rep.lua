-- Large strings of large strings.
local s = ("x"):rep(1000000) return s:rep(1000000)
