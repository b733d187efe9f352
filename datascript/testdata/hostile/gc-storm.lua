-- Asks for garbage collections.
for i = 1, 1e9 do collectgarbage() collectgarbage("collect") end
