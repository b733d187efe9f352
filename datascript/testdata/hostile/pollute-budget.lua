-- Is stopped half-way through changes.
leaked = 1 string.evil = function() end avi.http.add_header("X-Evil", "1") while true do end
