-- Malformed patterns, all at once.
for _, p in ipairs{"[", "[a", "%", "(", ")", "(()", "%b", "%bx", "%f", "%f[", "[]", "[^]", "[%", "%1", "(%1)", ("("):rep(40), ("%"):rep(99), "[a-]", "[]-a]", "\0", "[\0", "^*", "*", "+", "-", "?"} do
  for _, f in ipairs{string.find, string.match, string.gmatch, string.gsub} do
    local ok, e = pcall(f, "abc", p, "x") avi.vs.log(e)
    pcall(function() for x in ("abc"):gmatch(p) do end end)
  end
end
