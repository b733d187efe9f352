-- Errors while errors are handled.
xpcall(function() error("a") end, function(e) error(e .. "b") end) xpcall(function() local x = nil + 1 end, function(e) return e.x.y end)
