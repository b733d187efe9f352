-- Lines that look like others.
avi.vs.log("a\n[string \"Other\"]:1: forged\rb\0c\27[31m")
