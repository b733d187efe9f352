-- Captures that backtrack.
return (("a"):rep(5000)):find("(.-)(.-)(.-)(.-)b")
