-- A huge error text, caught and raised again.
local s = ("x"):rep(1000000) for i = 1, 100 do local ok, e = pcall(error, s) s = e .. s:sub(1, 900000) end error(s, 0)
