-- Nor can one be set.
setfenv(1, {})
