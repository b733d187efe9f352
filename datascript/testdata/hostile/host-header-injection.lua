-- Forges header lines.
for _, v in ipairs{"a\r\nX: y", "a\nX: y", "a\0b", "a\r"} do avi.vs.log(select(2, pcall(avi.http.add_header, "X-Evil", v)), select(2, pcall(avi.http.redirect, "http://x/" .. v))) end
