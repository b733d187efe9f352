-- Errors that show values.
avi.vs.log(select(2, pcall(function() local t = {} t[{}] = 1 return t[{}].x end)))
avi.vs.log(select(2, pcall(function() return avi.vs[{}].x end)))
avi.vs.log(select(2, pcall(function() return ("x")[{}]() end)))
local n return n[{}]
