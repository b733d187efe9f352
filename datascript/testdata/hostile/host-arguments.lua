-- Every function of the API, with every kind of argument.
local values = {1, -1, 0/0, 1/0, 2^53, "", "x", "\0\255", ("x"):rep(10000), true, {}, print, avi, avi.HTTP_REQUEST}
for _, lib in ipairs{avi.vs, avi.http, avi.pool, avi.ipgroup, string, table, math, os} do for name, f in pairs(lib) do if type(f) == "function" then
  local ok, e = pcall(f) avi.vs.log(name, type(e) == "string" and e or type(e))
  for i = 1, #values do pcall(f, values[i]) pcall(f, values[i], values[i % #values + 1]) pcall(f, "x", values[i], values[i]) pcall(f, {}, values[i], values[i], values[i]) end
end end end
