-- References to long captures.
return (("a"):rep(20000)):find("^(a*)%1%1%1%1%1b")
