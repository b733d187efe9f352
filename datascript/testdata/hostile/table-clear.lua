-- Fills and clears keys, which the VM never forgets.
local t = {} for i = 1, 1e9 do t["k" .. i] = 1 t["k" .. i] = nil end
