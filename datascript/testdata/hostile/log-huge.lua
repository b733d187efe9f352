-- Huge log lines.
for i = 1, 1000 do avi.vs.log(("x"):rep(1000000)) end
