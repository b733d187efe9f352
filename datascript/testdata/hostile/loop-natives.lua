-- Calls a function of the host for ever.
while true do avi.vs.client_ip() end
