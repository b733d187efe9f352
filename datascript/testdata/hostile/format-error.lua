-- An error text full of verbs.
error("100% %s %d %v %n %!x(MISSING) %")
