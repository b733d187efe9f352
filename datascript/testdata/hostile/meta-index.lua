-- Loops within __index.
local mt = {__index = function() while true do end end}
local t = setmetatable({}, mt)
return t.x
