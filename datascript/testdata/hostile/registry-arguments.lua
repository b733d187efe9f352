-- Calls with 1 to 70,000 arguments.
local function f(...) return select("#", ...) end
local t = {}
for n = 1, 70000 do t[n] = n if n % 1000 == 0 then pcall(f, unpack(t)) pcall(unpack, t, 1, n) pcall(f, unpack(t, 1, n % 8000)) end end
