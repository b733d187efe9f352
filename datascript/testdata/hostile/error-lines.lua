-- An error text that looks like log lines.
error("x\n[string \"Other\"]:1: forged\r\n\0end")
