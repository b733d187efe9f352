-- Errors in error handlers, for ever.
while true do xpcall(error, error) end
