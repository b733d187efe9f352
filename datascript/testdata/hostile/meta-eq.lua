-- Loops within __eq.
local mt = {__eq = function() while true do end end}
local t = setmetatable({}, mt)
return t == setmetatable({}, mt)
