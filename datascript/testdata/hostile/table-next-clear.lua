-- Traverses a table whose keys are gone.
local t = {} for i = 1, 20000 do t["k" .. i] = 1 t["k" .. i] = nil end while true do next(t) end
