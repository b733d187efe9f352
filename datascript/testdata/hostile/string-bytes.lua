-- All bytes of a large string at once.
return ("x"):rep(1000000):byte(1, -1)
