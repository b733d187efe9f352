-- A table as a key in an error.
local t return t[print]
