-- Frontiers everywhere.
local s = ("a b "):rep(50000) while true do s:gsub("%f[%a]%a", "x") end
