-- Changes constants.
pcall(function() avi.HTTP_GET = "POST" end) pcall(rawset, avi, "HTTP_GET", "POST") avi_HTTP_GET = 1
