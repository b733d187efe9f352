-- Loops within __tostring.
local mt = {__tostring = function() while true do end end}
local t = setmetatable({}, mt)
return tostring(t)
