-- A replacement that loops.
("x"):gsub("x", function() while true do end end)
