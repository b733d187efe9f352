-- Gives metatables to values of other types.
for _, v in ipairs{1, true, print, avi.HTTP_REQUEST} do pcall(setmetatable, v, {__index = {evil = 1}, __call = print}) end pcall(setmetatable, nil, {})
