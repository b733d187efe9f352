-- Sets fields of libraries behind their back.
pcall(rawset, string, "upper", nil) pcall(rawset, avi, "vs", nil) pcall(rawset, avi.vs, "log", nil) pcall(rawset, avi.http, "evil", 1) pcall(table.insert, avi.pool, 1)
