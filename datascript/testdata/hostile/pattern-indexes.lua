-- Indexes that make no sense.
for _, i in ipairs{0, -1, 1e9, -1e9, 2^31, -2^31, 2^53, 2^63, -2^63, 1e308, 1/0, -1/0, 0/0, 0.5, -0.5} do
  avi.vs.log(("abc"):sub(i, i), ("abc"):find("c", i, true), ("abc"):find("c", i), ("abc"):byte(i), ("abc"):match("c", i))
  avi.vs.log(select(2, pcall(string.rep, "", i)), select(2, pcall(select, i, 1)), select(2, pcall(unpack, {}, i, i)))
  avi.vs.log(select(2, pcall(string.char, i)), select(2, pcall(math.ldexp, 1, i)), select(2, pcall(table.concat, {}, "", i, i)))
  avi.vs.log(select(2, pcall(os.date, "%c", i)), select(2, pcall(tonumber, "10", i)), select(2, pcall(math.random, i)))
end
