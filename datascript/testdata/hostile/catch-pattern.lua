-- Catches the limit of pattern matching, and tries again.
while true do pcall(string.find, ("a"):rep(3000), ("a*"):rep(20) .. "b") end
