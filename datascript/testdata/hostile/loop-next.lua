-- Starts a traversal over again for ever.
local t = {1, 2, 3} local k while true do k = next(t, k) end
