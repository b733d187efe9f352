-- Functions without end, all kept.
local l = {} for i = 1, 1e9 do l[i] = function() return l, i end end
