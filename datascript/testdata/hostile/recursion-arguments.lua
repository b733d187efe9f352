-- Recursion that passes more and more arguments.
local function f(...) return 1, f(..., ...) end f(1)
