-- Traverses a table that grows.
local t = {1} for k in pairs(t) do for i = 1, 100 do t[k + i] = i end end while true do for k in pairs(t) do end end
