-- Sets every global that comes to mind.
leaked = 1 print = nil pairs = nil ipairs = nil next = nil type = nil tostring = nil pcall = nil error = nil select = nil x = 1 y = 2 client = 3 server = 4 self = 5 arg = 6
