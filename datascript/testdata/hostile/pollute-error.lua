-- Fails half-way through changes.
avi.http.add_header("X-Evil", "1") avi.http.set_path("/evil") leaked = 1 string.evil = 1 error({})
