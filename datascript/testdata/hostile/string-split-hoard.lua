-- Very many parts, kept.
local t = {} for i = 1, 1e9 do t[i] = ((","):rep(100000)):split(",") end
