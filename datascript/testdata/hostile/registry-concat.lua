-- Concatenates very many values.
local t = {} for i = 1, 7900 do t[i] = "x" end local function f(...) return table.concat({...}) .. select("#", ...) end while true do f(unpack(t)) end
