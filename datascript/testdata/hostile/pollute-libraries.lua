-- Adds to and replaces the other libraries.
table.concat = nil table.evil = 1 math.pi = 3 math.floor = nil math.evil = 1 os.time = nil os.evil = 1
