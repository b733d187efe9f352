-- HTTP Request Event --
pool = "my_pool"
client = avi.http.get_header("referer")
timeout = "300"

if client then
   server = avi.vs.table_lookup(client)
   if server then
      avi.pool.select(pool, client)
   end
end

-- HTTP Response Event --
if client and not server then
   avi.vs.table_insert(client, avi.pool.server_ip(), timeout)
end
