-- Leaves functions behind that share variables.
local x = 1 f = function() x = x + 1 return x end pcall(function() local y = 2 g = function() y = y + 1 return y end error("e") end) avi.vs.reqvar.f, avi.vs.reqvar.g = f, g
