-- A huge error text.
error(("x"):rep(1000000))
