-- Keeps as much as possible for other scripts.
for i = 1, 1e9 do avi.vs.reqvar[i] = ("x"):rep(100) .. i end
