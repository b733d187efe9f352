-- Inserts at an absurd place.
local t = {1} table.insert(t, -1e9, 1)
