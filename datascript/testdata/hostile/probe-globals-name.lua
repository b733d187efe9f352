-- Names that only the compiler may use.
local t = {} t["(globals)"] = 1 return t["(avi.vs.log)"].x
