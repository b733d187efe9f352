-- A step that is lost in rounding.
for i = 2^60, 2^60 + 1024, 0.5 do end
