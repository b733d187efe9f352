-- A flood of log lines.
while true do avi.vs.log("flood") end
