-- Varargs of varargs.
local function f(n, ...) if n > 0 then return f(n - 1, ..., ...) end end local t = {} for i = 1, 7000 do t[i] = i end f(150, unpack(t))
