-- Recursion that doubles its arguments.
local function f(...) local t = {...} for i = 1, 50 do t[#t + 1] = i end return (f(unpack(t))) end f(1)
