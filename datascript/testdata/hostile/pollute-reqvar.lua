-- Leaves something in the shared table.
avi.vs.reqvar.leaked = 1 avi.vs.reqvar.f = function() return avi.vs.reqvar end setmetatable(avi.vs.reqvar, {__index = function() return "evil" end, __metatable = "evil"})
