-- Loops within __call.
local mt = {__call = function() while true do end end}
local t = setmetatable({}, mt)
t()
