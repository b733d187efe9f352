-- A loop that does not move.
for i = 1, 2, 0 do end
