-- Unpacks more than fits.
local t = {} for i = 1, 1e9 do pcall(unpack, {}, 1, i * 1000) end
