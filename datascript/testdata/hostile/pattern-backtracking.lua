-- The classic exponential pattern.
return (("a"):rep(30)):find(("a*"):rep(10) .. "b")
