-- Malformed replacements.
for _, r in ipairs{"%", "%9", "%a", "%0%", "%1"} do avi.vs.log(select(2, pcall(string.gsub, "abc", "b", r))) end
