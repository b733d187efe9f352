-- Fills the stack at every depth.
local t = {} for i = 1, 4000 do t[i] = i end
local function f(n) if n > 0 then pcall(f, n - 1) end pcall(string.char, unpack(t)) end f(90)
