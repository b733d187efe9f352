-- Catches the limit of string size, and tries again.
while true do pcall(string.rep, "x", 2^21) end
