-- Makes garbage as fast as it can.
while true do local t = {} for i = 1, 100 do t[i] = {} end end
