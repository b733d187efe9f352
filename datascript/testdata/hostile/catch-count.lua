-- Counts how often the limit can be caught.
n = 0 while true do if not pcall(function() while true do end end) then n = n + 1 avi.vs.log(n) end end
