-- Pieces of a large string.
local s, t = ("x"):rep(1000000), {} for i = 1, 1e9 do t[i % 1000] = s:sub(i % 1000, -i % 1000) end
