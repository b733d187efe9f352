-- A table of replacements that loops.
("x"):gsub("x", setmetatable({}, {__index = function() while true do end end}))
