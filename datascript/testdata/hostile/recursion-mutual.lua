-- Two functions that call each other.
local g local function f(n) return (g(n + 1)) end g = function(n) return (f(n + 1)) end f(1)
