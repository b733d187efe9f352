-- Changes what strings do.
local mt = getmetatable("") pcall(function() mt.__index = nil end) pcall(function() mt.__add = nil end) pcall(setmetatable, "", {})
pcall(function() getmetatable("x").__index.upper = nil end) pcall(rawset, mt, "__index", nil)
