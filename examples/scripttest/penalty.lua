-- HTTP Request Event --
-- After three requests in a minute a client has to wait for five.
local client = avi.vs.client_ip()
local _, left = avi.vs.table_lookup("penalty", client, 0)
if left then
   avi.http.response(429, {retry_after = left}, "come back later\n")
   return
end
local count = (avi.vs.table_lookup("count", client, 0) or 0) + 1
avi.vs.table_remove("count", client)
avi.vs.table_insert("count", client, count, 60)
if count >= 3 then
   avi.vs.log("penalty for ", client)
   avi.vs.table_insert("penalty", client, "", 300)
end
