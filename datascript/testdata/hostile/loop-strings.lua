-- Makes strings for ever.
local i = 0 while true do i = i + 1 local s = i .. "x" .. i end
