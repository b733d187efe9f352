-- Very many parts.
while true do local t = ((","):rep(500000)):split(",") end
