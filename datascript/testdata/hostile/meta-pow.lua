-- Loops within __pow.
local mt = {__pow = function() while true do end end}
local t = setmetatable({}, mt)
return 2 ^ t
