-- A call with very many arguments.
local t = {} for i = 1, 7000 do t[i] = 65 end while true do string.char(unpack(t)) end
