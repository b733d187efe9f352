---- stick a client by its key, request
pool = "web_pool"
key = avi.vs.client_ip() .. ":" .. avi.vs.client_port()
server = avi.vs.table_lookup(key)
lifetime = "300"
if server then
   avi.pool.select(pool, key)
end
---- stick a client by its key, response
if not server then
   avi.vs.table_insert(key, avi.pool.server_ip(), lifetime)
end
---- referer
local client = avi.http.get_header("referer")
if client then
   server = avi.vs.table_lookup(client, 60)
   if server and server ~= "" then avi.pool.select("web_pool", server, 8080)
   elseif server == "" then avi.vs.table_remove(client)
   else
      avi.vs.log("no server for " .. client)
   end
end
---- block agents
local agents = { "curl", 'wget', [[python-requests]], "Go%-http%-client", }
local agent = avi.http.get_header("User-Agent") or ""
for index, pattern in ipairs(agents) do
  if string.find(string.lower(agent), string.lower(pattern)) then
    avi.http.response(403, {content_type="text/plain", ["x-reason"]="agent"}, "no\n")
    break
  end
end
---- rewrite a path
local path = avi.http.get_path()
local first, rest = string.match(path, "^/([^/]+)(/.*)$")
if first == "v1" and rest then
  avi.http.set_path("/api" .. rest)
elseif #path > 1024 then
  avi.http.redirect("https://" .. avi.http.hostname() .. "/too-long", 302)
end
---- query arguments
local q = avi.http.get_query(avi.QUERY_TABLE)
local t = {}
for k, v in pairs(q or {}) do
  if type(v) ~= "table" then t[#t+1] = k .. "=" .. tostring(v)
  else
    for i = 1, #v do t[#t+1] = k .. "=" .. v[i] end
  end
end
table.sort(t, function(a, b) return a < b end)
avi.http.set_query(table.concat(t, "&"))
---- ip group
if avi.ipgroup.contains("Blacklist", avi.vs.client_ip()) then
  avi.vs.log("denied", avi.vs.client_ip()); avi.http.close_conn(true)
  return
end
---- rate limit
local count, action = avi.vs.rate_limit(avi.RL_CUSTOM_STRING, avi.http.get_header("x-api-key"), true)
if count and action ~= avi.RL_ACTION_NONE then avi.http.response(429, { retry_after = "5" }) end
---- cookies
local name, value = "sid", avi.http.get_cookie("sid", avi.HTTP_REQUEST)
if not value then
  value = avi.utils.sha1_hash(avi.vs.client_ip() .. os.time())
  avi.http.add_cookie(name, value, "path", "/", "httponly", true)
else avi.http.replace_cookie{name=name, value = value; "secure"} end
---- string groups
val, match = avi.stringgroup.beginswith("paths", avi.http.get_path())
if match then avi.pool.select(val) end
---- request variables
avi.vs.reqvar.start = os.clock()
avi.vs.reqvar["nested key"] = {1, 2, 3; x = 4, [5] = 6}
local n = (avi.vs.reqvar.count or 0) + 1
avi.vs.reqvar.count = n
---- escapes that scripts rely on
local s = "wow\! \065\10\000\'\"\\ \a\b\f\n\r\t\v end"
local m = string.match(s, '\(x\)') -- odd but accepted
s = "line one\
line two"
---- comments of all kinds
-- short
--[ not long
--[==[ long
   ]] ]=] still
]==] x = 1 --[[ inline ]] y = 2
--[[
multi
]]--
z = 3 --
---- long strings
local a = [[
first newline dropped
]]
local b = [==[ ]] ]=] [[ ]==]
local c = [=[]=] .. [[]]
f[[x]] g[=[y]=] h"z" i'w' j{}
---- numbers
local t = {0, 1, 12, 0x10, 0XfF, 3.5, .5, 5., 1e3, 1E-3, 1.5e+10, 0x0, 1e308, 007, 0.1e1}
local u = 1 ..2
local v = 2^-3^2 - -1 + - 1
---- operators
local a, b, c, d = 1, 2, 3, 4
local r = a + b - c * d / a % b ^ c
r = not a == b ~= c and d or a .. b .. c
r = a < b and b <= c or c > d and d >= a
r = #"x" + -#"y" * (a + (b)) .. (((c)))
r = not not nil == true, false
---- assignments
local i, t = 1, {}
i, t[i] = i + 1, 20
t.x, t.y, t["z"], g = 1, 2
t[t.x], t = t, nil
a.b.c.d, e["f"].g[h()] = f(), ...
x = nil
---- calls
f()
f(a, b, ...)
f{1, 2}
f"s"
o:m(1):n"x":p{}.q[1](2);
(f or g)(1)
local r = (f(a))
r = o.a.b.c:d(e)[f(g)(h)]
print((...))
---- functions
function f() end
function f.g.h(a, b) return a, b end
function f.g:m(x, ...) local y = self return y, x, ... end
local function rec(n) if n == 0 then return 1 end return n * rec(n - 1) end
local g = function(...) return select("#", ...) end
local h = function(a, b, c) return function() return a + b, c end end
return f, g, h(1, 2, 3)()
---- closures
local function counter(step)
  local n = 0
  return { inc = function() n = n + step; return n end,
           dec = function() n = n - step return n end,
           get = function() return n end }
end
local c = counter(2); c.inc()
---- loops
for i = 1, 10 do print(i) end
for i = 10, 1, -1 do if i == 5 then break end end
for k, v in next, t do k = v end
for a, b, c, d, e in f() do local x = a end
while true do
  local x = f()
  if not x then break end
  repeat local y = x; x = g(y) until y == x or not y
end
repeat until true
---- blocks
do local x = 1; do local x = 2 end end
do end
do return end
---- early return
if a then return end
if b then return 1 else return 2, 3; end
while c do return f() end
return
---- return variants
return f(...), (g(...)), ...;
---- goto is a name here
goto = 1
local goto_ = goto
goto(goto)
---- semicolons
a = 1; b = 2; local c = 3; f(); do end; return;
---- table constructors
local t = {}
t = {1}
t = {1,}
t = {a = 1; b = 2, 3; [4] = 5, ["x y"] = function() return {} end,}
t = {f(), g(), ...}
t = {{{}}, {a = {b = {c = {}}}}}
t = {a, b = c, d == e, f.g, h "x", [1] = 2}
---- method chains over lines
local r = object
  :first(1)
  :second { a = 1 }
  .third
  [4]
---- xml and json helpers
local function escape(s)
  return (s:gsub('[&<>"\']', {["&"]="&amp;", ["<"]="&lt;", [">"]="&gt;", ['"']="&quot;", ["'"]="&#39;"}))
end
local body = "<a href=\"" .. escape(avi.http.get_uri()) .. "\">" .. escape("x") .. "</a>"
avi.http.response(200, {content_type = "text/html"}, body)
---- queue
local Queue = {}
Queue.__index = Queue
function Queue.new() return setmetatable({first = 0, last = -1}, Queue) end
function Queue:push(v) self.last = self.last + 1; self[self.last] = v end
function Queue:pop()
  local first = self.first
  if first > self.last then error("queue is empty", 2) end
  local v = self[first]
  self[first] = nil
  self.first = first + 1
  return v
end
---- sort
local function quicksort(t, lo, hi)
  lo, hi = lo or 1, hi or #t
  if lo >= hi then return t end
  local p, i = t[hi], lo - 1
  for j = lo, hi - 1 do
    if t[j] <= p then i = i + 1; t[i], t[j] = t[j], t[i] end
  end
  t[i + 1], t[hi] = t[hi], t[i + 1]
  quicksort(t, lo, i); quicksort(t, i + 2, hi)
  return t
end
---- protected calls
local ok, err = pcall(function(...)
  assert(select("#", ...) > 0, "none")
  return error({code = 500})
end, 1, 2)
if not ok then avi.vs.log(tostring(err and err.code or err)) end
---- old varargs
function old(...)
  local n = arg.n
  return unpack(arg, 1, n)
end
---- shadowing
local x = x
local x, x = x, x
for x = x, x do local x = x end
function x(x) local x = x; return x end
---- string methods
local s = ("%d items"):format(3)
s = ("x"):rep(10):upper():sub(2, -2)
local n = #("abc" .. "def")
---- numbers in concatenation
local s = 1 .. "" .. 2 .. 3.5 .. ""
return s .. 1
---- conditions
if (a and b) or (c and not d) then x() elseif a == nil or b ~= false then y() end
while (not a or b) and c do z() end
local v = a and {b} or {c}
v = (a or b)(c and d)
---- empty statements of nothing

-- only a comment
---- one name of a chain
a.b["c"].d = a.b["c"].d or {}
a.b.c[1][2][3] = a.b.c[3][2][1]
---- tail calls
local function loop(n) if n > 0 then return loop(n - 1) end return n end
return loop(10)
---- geographic routing
local country = avi.ipgroup.country and avi.ipgroup.country(avi.vs.client_ip()) or "ZZ"
local pools = { DE = "eu", FR = "eu", US = "us"; ZZ = "any" }
avi.pool.select(pools[country] or pools.ZZ)
---- maintenance window
local now = os.date("*t", os.time())
if now.hour >= 2 and now.hour < 4 and now.wday ~= 1 then
  avi.http.response(503, {["Retry-After"] = tostring((4 - now.hour) * 3600)}, [[
<html><body>Maintenance</body></html>
]])
end
---- header loops
for _, h in ipairs { "x-forwarded-for", "x-real-ip"; "via" } do
  local v = avi.http.get_header(h)
  if v then avi.http.remove_header(h) avi.http.add_header("x-old-" .. h, v) end
end
---- response body
local status = avi.http.status()
if status == "404" or status == "410" then avi.http.redirect("/gone?u=" .. avi.http.get_uri(), 301)
elseif tonumber(status) >= 500 then
  avi.vs.table_insert("errors", avi.pool.server_ip(), status, 30)
end
---- unicode and bytes
local s = "größe €" .. 'ÿþ' -- ünïcödé
local t = [[日本]]
---- carriage returns
local a = 1
local b = [[
x
y
]]
---- deep but fine
x = {{{{{{{{{{{{{{{{1}}}}}}}}}}}}}}}}
y = ((((((((((((((((1))))))))))))))))
z = - - - - - not not not # # "x"
do do do do do do end end end end end end
