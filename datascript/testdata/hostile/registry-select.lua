-- Selects from very many values.
local t = {} for i = 1, 7900 do t[i] = i end while true do select(-1, unpack(t)) end
