-- Counts an array with a long empty tail.
local t = {} t[32767] = 1 t[32767] = nil while true do local n = #t end
