-- Quoting makes text longer.
return ("%q"):format(("\0"):rep(900000))
