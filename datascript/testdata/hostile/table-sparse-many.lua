-- Very many far indexes.
local l = {} for i = 1, 1e9 do local t = {} t[32767] = 1 l[i] = t end
