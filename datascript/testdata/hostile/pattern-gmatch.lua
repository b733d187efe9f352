-- An iterator over everything.
for a in (("a"):rep(1000000)):gmatch("()") do end
