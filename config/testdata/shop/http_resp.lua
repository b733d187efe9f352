if avi.http.get_header('X-Fail', avi.HTTP_REQUEST) then error('oh') end
avi.http.add_header('X-Pool', avi.pool.name())
