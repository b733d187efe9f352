-- HTTP_REQ
who = avi.vs.client_ip()
if avi.vs.ratelimit.exceed('per client', who) then avi.http.response(429) end
avi.http.add_header('X-Who', who)
-- HTTP_RESP
avi.vs.log('served ', who)
