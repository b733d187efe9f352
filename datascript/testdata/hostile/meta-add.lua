-- Loops within __add.
local mt = {__add = function() while true do end end}
local t = setmetatable({}, mt)
return t + 1
