-- Large strings as keys.
local t = {} for i = 1, 1e9 do t[("x"):rep(100000) .. i] = true end
