-- Floods the request with headers.
for i = 1, 1e9 do avi.http.add_header("X-" .. i, ("x"):rep(1000)) end
