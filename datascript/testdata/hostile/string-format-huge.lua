-- Numbers with very many digits.
while true do local s = ("%99.99f"):format(1e308) end
