-- Leaves iterators behind.
it = ("a b c"):gmatch("%a") it() avi.vs.reqvar.it = it nx, st, k = pairs(string) avi.vs.reqvar.nx = nx
