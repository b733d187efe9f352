-- One huge string.
return ("x"):rep(1e11)
