-- Runs string functions for the differential test. Each input line is a function's name
-- and its arguments: s and hexadecimal digits for a string, n and decimal text for a
-- number, - for nil, + for true. Each output line is the results in the same form, or
-- ! and the error message in hexadecimal digits.

local function hex(s)
  return (s:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

local char = {}
for i = 0, 255 do char[("%02x"):format(i)] = string.char(i) end

local function decode(word)
  local kind = word:sub(1, 1)
  if kind == "s" then return (word:sub(2):gsub("%x%x", char)) end
  if kind == "n" then return tonumber(word:sub(2)) end
  if kind == "+" then return true end
  return nil
end

local function encode(v)
  local t = type(v)
  if t == "string" then return "s" .. hex(v) end
  if t == "number" then
    if v ~= v then return "nnan" end
    return ("n%.17g"):format(v)
  end
  if v == nil then return "-" end
  return v and "+" or "0"
end

local fn = {
  find = string.find, match = string.match, gsub = string.gsub, format = string.format,
  lower = string.lower, upper = string.upper, rep = string.rep, sub = string.sub,
  reverse = string.reverse, byte = string.byte, char = string.char,
  tonumber = tonumber, tostring = tostring,
}

-- All results of the iteration, each turn ending in true.
function fn.gmatch(s, p)
  local out, n = {}, 0
  local function collect(first, ...)
    if first == nil then return false end
    for _, v in ipairs({first, ...}) do n = n + 1; out[n] = v end
    n = n + 1; out[n] = true
    return true
  end
  local iterate = string.gmatch(s, p)
  while collect(iterate()) do end
  return unpack(out)
end

-- The replacement function keeps the match when its first capture is "a" and joins the
-- captures otherwise.
function fn.gsubf(s, p, n)
  return string.gsub(s, p, function(...)
    local first = ...
    if first == "a" then return nil end
    return "<" .. table.concat({...}, "|") .. ">"
  end, n)
end

-- The replacement table has everything but "b".
function fn.gsubt(s, p, n)
  local t = setmetatable({}, {__index = function(_, k)
    if k == "b" then return false end
    return "[" .. k .. "]"
  end})
  return string.gsub(s, p, t, n)
end

io.stdout:setvbuf("full")
for line in io.lines() do
  local words, n = {}, 0
  for word in line:gmatch("%S+") do
    n = n + 1
    words[n] = word
  end
  local args = {}
  for i = 2, n do args[i - 1] = decode(words[i]) end
  local function results(ok, ...)
    if not ok then
      -- An error inside a function of this file carries its place.
      return "!" .. hex((tostring((...)):gsub("^testdata/driver%.lua:%d+: ", "")))
    end
    local out = {}
    for i = 1, select("#", ...) do out[i] = encode((select(i, ...))) end
    return table.concat(out, " ")
  end
  io.write(results(pcall(fn[words[1]], unpack(args, 1, n - 1))), "\n")
end
