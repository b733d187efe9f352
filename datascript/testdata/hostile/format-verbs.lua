-- Go's verbs must not work.
for _, v in ipairs{"%v", "%+v", "%#v", "%T", "%p", "%U", "%t", "%w", "%b", "%O", "%!", "%999d", "%1.999f", "%*d", "%[1]d", "%n", "%ld", "%hhd"} do avi.vs.log(v, select(2, pcall(string.format, v, {}))) avi.vs.log(v, select(2, pcall(string.format, v, 42))) end
