-- The log asks for text.
avi.vs.log(setmetatable({}, {__tostring = function() while true do end end}))
