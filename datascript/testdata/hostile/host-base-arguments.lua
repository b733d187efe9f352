-- Every basic function, with every kind of argument.
local values = {1, -1, 0/0, 1/0, 2^53, "", "x", "#", true, {}, print, avi, avi.HTTP_REQUEST}
for _, f in ipairs{assert, error, getmetatable, ipairs, next, pairs, pcall, print, rawequal, rawget, rawset, select, setmetatable, tonumber, tostring, type, unpack, xpcall} do
  avi.vs.log(select(2, pcall(f)))
  for i = 1, #values do avi.vs.log(select(2, pcall(f, values[i]))) pcall(f, values[i], values[i % #values + 1]) pcall(f, {}, values[i], values[i]) end
end
