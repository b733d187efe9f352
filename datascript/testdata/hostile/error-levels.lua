-- Errors at absurd levels.
for _, l in ipairs{-1, 0, 1, 2, 3, 100, 1e9, -1e9, 2^53, 0/0} do avi.vs.log(select(2, pcall(function() error("x", l) end))) end error("y", 50)
