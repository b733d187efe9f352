-- Loops within __unm.
local mt = {__unm = function() while true do end end}
local t = setmetatable({}, mt)
return -t
