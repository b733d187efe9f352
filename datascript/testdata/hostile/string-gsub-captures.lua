-- Replacements made of captures.
return (("x"):rep(100000):gsub("x", ("%0"):rep(100)))
