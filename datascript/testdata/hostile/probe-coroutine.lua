-- There are no coroutines.
coroutine.wrap(function() while true do end end)()
