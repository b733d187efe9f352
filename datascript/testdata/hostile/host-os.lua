-- Absurd times and dates.
for _, v in ipairs{0, -1, 1e18, -1e18, 1/0, 0/0} do avi.vs.log(select(2, pcall(os.date, "%c", v))) avi.vs.log(select(2, pcall(os.date, "*t", v))) avi.vs.log(select(2, pcall(os.time, {year = v, month = v, day = v}))) end
return os.date(("%c"):rep(100000))
