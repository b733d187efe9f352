-- Loops within __concat.
local mt = {__concat = function() while true do end end}
local t = setmetatable({}, mt)
return t .. t
