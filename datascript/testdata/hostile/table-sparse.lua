-- A far index must not fill the way there.
local t = {} t[67108863] = 1 t[2^31] = 1 t[2^53] = 1 t[-5] = 1 t[1e300] = 1 return #t
