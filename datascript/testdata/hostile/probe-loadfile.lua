-- There is no loader.
dofile("/etc/passwd")
