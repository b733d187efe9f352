-- A quadratic search, over and over.
local s = ("a"):rep(100000) while true do s:find(".-b") end
