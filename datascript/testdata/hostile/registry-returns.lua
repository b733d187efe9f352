-- Returns more than fits.
local t = {} for i = 1, 7900 do t[i] = i end local function f(n) if n == 0 then return unpack(t) end return unpack(t), f(n - 1) end return f(150)
