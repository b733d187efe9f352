-- The worst input for a quicksort.
local t = {} for i = 1, 4000 do t[i] = i % 2 == 0 and i or -i end while true do table.sort(t, function(a, b) return a * a % 13 < b * b % 13 end) end
