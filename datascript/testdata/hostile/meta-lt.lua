-- Loops within __lt.
local mt = {__lt = function() while true do end end}
local t = setmetatable({}, mt)
return t < setmetatable({}, mt)
