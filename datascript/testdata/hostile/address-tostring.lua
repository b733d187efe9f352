-- Addresses of values.
avi.vs.log(tostring({}), tostring(print), tostring(avi), tostring(string), tostring(avi.HTTP_REQUEST), tostring(function() end), {} , print)
error(tostring({}) .. tostring(print))
