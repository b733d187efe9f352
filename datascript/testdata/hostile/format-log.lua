-- A log line full of verbs.
avi.vs.log("%s %d %v %p", "%s") print("%v", {})
