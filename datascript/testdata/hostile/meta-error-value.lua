-- The host must not run what an error value brings along.
error(setmetatable({}, {__tostring = function() while true do end end, __concat = function() while true do end end}))
