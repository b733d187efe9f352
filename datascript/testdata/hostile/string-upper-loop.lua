-- Long work in one call, over and over.
local s = ("x"):rep(1000000) while true do s = s:upper():lower():reverse() end
