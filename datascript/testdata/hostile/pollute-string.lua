-- Adds to and replaces the string library.
string.evil = function() return "evil" end string.upper = function() return "evil" end string.sub = nil function string.trim(s) return "evil" end
