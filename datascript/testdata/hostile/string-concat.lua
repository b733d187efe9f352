-- Joins large strings.
local t = {} for i = 1, 10000 do t[i] = ("x"):rep(100000) end return table.concat(t)
