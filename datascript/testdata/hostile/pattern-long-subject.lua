-- A long subject and a greedy pattern.
local s = ("a"):rep(1000000) return s:match("(.*)x(.*)y")
