-- assert with odd messages.
pcall(assert, false, {}) pcall(assert, nil, print) pcall(assert) assert(false, ("x"):rep(100000))
