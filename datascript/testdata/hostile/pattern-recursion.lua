-- Deep recursion in the matcher.
return (("a"):rep(900000)):match(("a?"):rep(300) .. "b")
