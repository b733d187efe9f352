-- There is no environment table.
getfenv(0).print = nil
