-- An iterator that never ends.
for k in function() return 1 end do end
