-- A table with lifetimes, since stick-tables cannot be written from Lua.
local entries = {}
local lifetime = 300

core.register_action("find", { "http-req" }, function(txn)
	local key = txn.f:src() .. txn.f:src_port()
	local now = core.now().sec
	local entry = entries[key]
	if entry and entry.expires > now then
		entry.expires = now + lifetime
		txn:set_var("txn.server", entry.server)
	else
		txn:set_var("txn.key", key)
	end
end)

core.register_action("keep", { "http-res" }, function(txn)
	local key = txn:get_var("txn.key")
	if key then
		entries[key] = { server = txn.f:srv_name(), expires = core.now().sec + lifetime }
	end
end)
