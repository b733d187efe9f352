-- An error value that is no text.
error(0/0)
