-- Changes methods of strings.
pcall(function() ("").upper = nil end) pcall(function() local s = "x" s.upper = nil end)
