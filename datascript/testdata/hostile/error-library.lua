-- An error value that is no text.
error(avi.vs)
