-- Recursion through tostring.
local t = {} setmetatable(t, {__tostring = function(t) return tostring(t) end}) return tostring(t)
