-- Keeps as much as possible for the next event.
big = {} for i = 1, 1e9 do big[i] = ("x"):rep(100) .. i end
