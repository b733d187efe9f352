-- An order without order, over and over.
local t = {} for i = 1, 2000 do t[i] = i % 7 end while true do pcall(table.sort, t, function(a, b) return true end) end
