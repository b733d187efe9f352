-- An error that names a huge field.
local t = {} return t[("x"):rep(1000000)].y.z
