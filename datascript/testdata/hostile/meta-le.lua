-- Loops within __le.
local mt = {__le = function() while true do end end}
local t = setmetatable({}, mt)
return t <= setmetatable({}, mt)
