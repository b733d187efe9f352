-- Calls an empty function for ever.
local function f() end while true do f() end
