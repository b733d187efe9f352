-- Many tables at once.
local l = {} for i = 1, 1e9 do l[i] = {{}, {}, {}, {}, {}, {}, {}, {}, {}, {}} end
