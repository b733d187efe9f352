-- Error values of every type.
for _, v in ipairs{1, 0/0, true, false, "", "x", {}, print, avi, avi.HTTP_REQUEST, setmetatable({}, {__tostring = function() error("again") end})} do local ok, e = pcall(error, v) assert(not ok) avi.vs.log(type(e)) end error(nil)
