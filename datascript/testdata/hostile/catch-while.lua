-- Catches whatever stops the loop, and loops on.
while true do pcall(function() while true do end end) end
