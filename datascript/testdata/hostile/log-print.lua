-- A flood of prints.
while true do print("x", {}, nil, 1/0) end
