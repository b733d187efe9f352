-- Floods the persistence table.
for i = 1, 1e9 do avi.vs.table_insert("k" .. i, ("x"):rep(1000), 300) end
