-- Helper functions: what operators publish for reading tokens.
local alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
local value = {}
for i = 1, #alphabet do value[alphabet:byte(i)] = i - 1 end

local function decode(text)
   local out, bits, held = {}, 0, 0
   for i = 1, #text do
      local v = value[text:byte(i)]
      if not v then return nil end
      held = held * 64 + v
      bits = bits + 6
      if bits >= 8 then
         bits = bits - 8
         local unit = 2 ^ bits
         local byte = math.floor(held / unit)
         held = held - byte * unit
         out[#out + 1] = string.char(byte)
      end
   end
   return table.concat(out)
end

local parse

local function blanks(s, i)
   while true do
      local c = s:sub(i, i)
      if c ~= " " and c ~= "\n" and c ~= "\t" and c ~= "\r" then return i end
      i = i + 1
   end
end

local function text(s, i)
   local out = {}
   i = i + 1
   while true do
      local c = s:sub(i, i)
      if c == '"' then return table.concat(out), i + 1 end
      if c == "" then error("unfinished string") end
      if c == "\\" then
         i = i + 1
         c = s:sub(i, i)
      end
      out[#out + 1] = c
      i = i + 1
   end
end

local function number(s, i)
   local from = i
   while s:sub(i, i):find("[%d%.eE+-]") do i = i + 1 end
   return tonumber(s:sub(from, i - 1)), i
end

function parse(s, i)
   i = blanks(s, i)
   local c = s:sub(i, i)
   if c == '"' then return text(s, i) end
   if c == "{" or c == "[" then
      local t, n = {}, 0
      local close = c == "{" and "}" or "]"
      i = blanks(s, i + 1)
      while s:sub(i, i) ~= close do
         local key
         if c == "{" then
            key, i = text(s, i)
            i = blanks(s, i) + 1
         else
            n = n + 1
            key = n
         end
         t[key], i = parse(s, i)
         i = blanks(s, i)
         if s:sub(i, i) == "," then i = blanks(s, i + 1) end
      end
      return t, i + 1
   end
   if s:sub(i, i + 3) == "true" then return true, i + 4 end
   if s:sub(i, i + 4) == "false" then return false, i + 5 end
   if s:sub(i, i + 3) == "null" then return nil, i + 4 end
   return number(s, i)
end

local function claims(token)
   local payload = token:match("^[^%.]+%.([^%.]+)%.[^%.]+$")
   return payload and parse(decode(payload), 1)
end

local token = avi.http.get_header("Authorization"):match("^Bearer (.+)$")
avi.vs.log(claims(token).sub)
avi.vs.log(claims(token).roles[1])
avi.vs.log(claims(token).exp)
