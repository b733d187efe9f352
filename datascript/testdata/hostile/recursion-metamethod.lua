-- Recursion through a metamethod.
local t = {} setmetatable(t, {__add = function(a, b) return a + b end}) return t + t
