-- Recursion through pcall.
local function f() pcall(f) end f() while true do f() end
