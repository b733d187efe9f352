-- Loops within __newindex.
local mt = {__newindex = function() while true do end end}
local t = setmetatable({}, mt)
t.x = 1
