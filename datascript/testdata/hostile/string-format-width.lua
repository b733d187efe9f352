-- Widths and strings that add up.
local s = ("x"):rep(500000) return ("%s%s%s%s"):format(s, s, s, s)
