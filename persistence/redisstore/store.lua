-- What a store asks of its server: every verb is one run of this script, and so happens at once.
--
-- KEYS are three names with one hash tag: an entry, and of its table the index and the counts.
--   entry   a hash: v is the value, d the deadline; i and l, if there, the idle lifetime and the latest deadline
--   index   a sorted set of the table's entries, value and key in one member, by deadline
--   counts  a hash that says how many members of the index have a value
--   lost    exists for a while after the server has dropped the index or the counts: they may lack entries
-- Deadlines are microseconds since 1970 on the server's clock, durations microseconds.
--
-- The server may drop an entry before its deadline, to free memory or because somebody has deleted it. Its member of the index is then
-- stale: it does not agree with the entry of that name, which may be missing or have been stored anew with another value.
--
-- All changes of an entry come one after another, without anything read between them: the server sends one message about them.
--
-- The first write of a run is always a command that a server without memory refuses, so that a refused run has changed nothing.

local entry, index, counts = KEYS[1], KEYS[2], KEYS[3]
local stem = string.sub(entry, 1, #index) -- the name of an entry is as long as that of the index, and the key
local lost = string.sub(index, 1, -2) .. 'l'
local number, now, verb, longest, limit, sliding = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6] == '1'
local FOUND, NONE, REFUSED, FOREIGN, LARGE = 1, 0, -1, -2, -3

if not now then
	local time = redis.call('TIME')
	now = time[1] * 1000000 + time[2]
end

local key = string.sub(entry, #stem + 1)

local function decimal(n) return string.format('%.0f', n) end

local function member(value, key) return #value .. ':' .. value .. key end

-- split returns value and key, or nothing if the member is not ours.
local function split(m)
	local digits = string.match(m, '^(%d+):')
	if digits then
		local from = #digits + 2
		local value, key = string.sub(m, from, from + digits - 1), string.sub(m, from + digits)
		if member(value, key) == m then
			return value, key
		end
	end
end

-- agrees reports whether the entry has the value. It may be longer than what may be read, or not be an entry.
local function agrees(value, key)
	local name = stem .. key
	return redis.pcall('HSTRLEN', name, 'v') == #value and redis.call('HGET', name, 'v') == value
end

-- miss notes that the server has dropped what tells the entries.
local function miss()
	redis.call('SET', lost, '', 'PX', decimal(math.ceil(longest / 1000)))
end

-- unindex takes an entry out of the index and reports whether it was there.
local function unindex(value, key)
	local m = member(value, key)
	if not redis.call('ZSCORE', index, m) then
		return false
	end
	if redis.call('HINCRBY', counts, value, -1) <= 0 then
		redis.call('HDEL', counts, value)
	end
	redis.call('ZREM', index, m)
	return true
end

-- expire has the server free the entry after its deadline.
local function expire(deadline)
	redis.call('PEXPIREAT', entry, decimal(math.ceil(deadline / 1000)))
end

-- place puts an entry that has just been written into the index, sees that the index outlives it, and reports whether it was not there.
local function place(value, deadline)
	if redis.call('EXISTS', index, counts) == 1 then -- the server has dropped the other one
		redis.call('UNLINK', index, counts)
		miss()
	end
	local added = redis.call('ZADD', index, decimal(deadline), member(value, key)) == 1
	if added then
		redis.call('HINCRBY', counts, value, 1)
	end
	if redis.call('PTTL', index) * 1000 < deadline - now then
		local at = decimal(math.ceil((now + 2 * longest) / 1000))
		redis.call('PEXPIREAT', index, at)
		redis.call('PEXPIREAT', counts, at)
	end
	return added
end

-- replace takes the place of the live entry in the index for what has just been written.
local function replace(value, new, deadline)
	local found = unindex(value, key)
	place(new, deadline)
	if not found then
		miss()
	end
end

-- remove takes a member out of the index.
local function remove(m)
	local value, key = split(m)
	if value then
		unindex(value, key)
	else
		redis.call('ZREM', index, m)
	end
end

-- purge takes up to n members of expired entries out of the index.
local function purge(n)
	local expired = redis.call('ZRANGEBYSCORE', index, '-inf', decimal(now), 'LIMIT', 0, n)
	for _, m in ipairs(expired) do
		remove(m)
	end
	return #expired
end

-- sweep takes the stale ones of some members, which come every so many places, out of the index.
local function sweep(members, step)
	local gone = 0
	for i = 1, #members, step do
		local v, k = split(members[i])
		if not v or not agrees(v, k) then
			remove(members[i])
			gone = gone + 1
		end
	end
	return gone
end

if verb == 'purge' then
	return {number, FOUND, purge(1000)}
elseif verb == 'sweep' then -- cursor, width
	local page = redis.call('ZSCAN', index, ARGV[7], 'COUNT', ARGV[8])
	sweep(page[2], 2)
	return {number, FOUND, page[1], #page[2] / 2}
elseif verb == 'entries' or verb == 'counts' then -- cursor, width; for entries also a prefix of keys, and two spellings of a value
	local complete = redis.call('EXISTS', index, counts) ~= 1 and redis.call('EXISTS', lost) == 0
	local page, examined
	if verb == 'counts' then
		page = redis.call('HSCAN', counts, ARGV[7], 'COUNT', ARGV[8])
	else
		page = redis.call('ZSCAN', index, ARGV[7], 'COUNT', ARGV[8])
		local found, prefix, shown, marked = {}, ARGV[9] or '', ARGV[10] or '', ARGV[11]
		examined = #page[2] / 2
		for i = 1, #page[2], 2 do
			local v, k = split(page[2][i])
			if v and string.sub(k, 1, #prefix) == prefix and (shown == '' or v == shown or v == marked) and agrees(v, k) then
				found[#found + 1], found[#found + 2], found[#found + 3] = k, v, page[2][i + 1]
			end
		end
		page[2] = found
	end
	return {number, FOUND, page[1], now, page[2], complete and 1 or 0, examined or 0}
end

local function instant(s)
	local n = tonumber(s)
	return n and n >= 0 and n < 2^53 and n or nil
end

local size = redis.call('HSTRLEN', entry, 'v')
if size > limit then
	return {number, LARGE, size}
end
local fields = redis.call('HMGET', entry, 'v', 'd', 'i', 'l')
local value, deadline, idle, latest = fields[1], instant(fields[2]), instant(fields[3]), instant(fields[4])
if not value or not deadline or not idle ~= not latest then
	if redis.call('EXISTS', entry) == 1 then
		return {number, FOREIGN}
	end
	value = nil
end
local live = value and deadline > now

-- renew gives the live entry another deadline, which an idle lifetime may cut.
local function renew(to)
	if latest then
		to = math.min(to, latest)
	end
	redis.call('HSET', entry, 'd', decimal(to))
	expire(to)
	if place(value, to) then
		miss()
	end
	return to - now
end

if verb == 'lookup' then -- extend, least extension worth a write, whether to return the value
	if not live then
		return {number, NONE}
	end
	local to, extend = deadline, tonumber(ARGV[7])
	if idle then
		to = now + idle
		to = math.min(to, latest)
	elseif extend > 0 and sliding then
		to = now + math.min(extend, longest)
	elseif extend > 0 then
		to = math.min(deadline + extend, now + longest)
	end
	local left, renewed = deadline - now, 0
	if to - deadline > tonumber(ARGV[8]) then
		left, renewed = renew(to), 1
	end
	return {number, FOUND, ARGV[9] == '1' and value or '', left, renewed, idle and 1 or 0}

elseif verb == 'peek' then
	if not live then
		return {number, NONE}
	end
	return {number, FOUND, value, deadline - now}

elseif verb == 'touch' then -- lifetime
	if not live then
		return {number, NONE}
	end
	return {number, FOUND, value, renew(now + ARGV[7])}

elseif verb == 'remove' then
	if value then
		redis.call('DEL', entry)
		if not unindex(value, key) and live then
			miss()
		end
	end
	return {number, live and FOUND or NONE}

elseif verb == 'drop' then -- two spellings of the value that the entry must have
	if not live or value ~= ARGV[7] and value ~= ARGV[8] then
		return {number, NONE}
	end
	redis.call('DEL', entry)
	if not unindex(value, key) then
		miss()
	end
	return {number, FOUND}
end

-- evict deletes the n entries that end first.
local function evict(n)
	for _ = 1, n do
		local m = redis.call('ZRANGE', index, 0, 0)[1]
		local v, k = split(m)
		if v and agrees(v, k) then
			redis.call('DEL', stem .. k)
		end
		remove(m)
	end
end

-- make stores a value under the key. It returns nil if the table is full and refuses new keys.
local function make(new, to, idle, latest, most, refuse)
	if not live then
		purge(16)
		if value then
			unindex(value, key)
		end
		local size = redis.call('ZCARD', index)
		if size >= most then
			if (not refuse or purge(256) == 0) and sweep(redis.call('ZRANGE', index, 0, refuse and 7 or 0), 1) == 0 then
				sweep(redis.call('ZRANGE', index, now % size, now % size + (refuse and 7 or 1)), 1)
			end
			local above = redis.call('ZCARD', index) - most + 1
			if above > 1 then -- the bound was higher, or somebody else has changed the index
				above = above - sweep(redis.call('ZRANGE', index, -16, -1), 1)
			end
			if refuse and above > 0 then
				return nil
			end
			evict(math.min(above, 16))
		end
	end
	if latest then
		redis.call('HSET', entry, 'v', new, 'd', decimal(to), 'i', decimal(idle), 'l', decimal(latest))
	else
		redis.call('HSET', entry, 'v', new, 'd', decimal(to))
		redis.call('HDEL', entry, 'i', 'l')
	end
	expire(to)
	if live then
		replace(value, new, to)
	else
		place(new, to)
	end
	return to - now
end

if verb == 'store' then -- how, value, lifetime, idle lifetime or 0, greatest number of entries, whether a full table refuses
	local how, new, lifetime, idle = ARGV[7], ARGV[8], tonumber(ARGV[9]), tonumber(ARGV[10])
	if live and how == 'insert' then
		return {number, FOUND, value, renew(now + lifetime), 1}
	elseif live and how == 'add' then
		return {number, FOUND, value, deadline - now, 1}
	end
	local left
	if idle > 0 then
		left = make(new, now + math.min(idle, lifetime), idle, now + lifetime, tonumber(ARGV[11]), ARGV[12] == '1')
	else
		left = make(new, now + lifetime, nil, nil, tonumber(ARGV[11]), ARGV[12] == '1')
	end
	if not left then
		return {number, REFUSED}
	end
	return {number, FOUND, new, left, 0}

elseif verb == 'claim' then -- value, lifetime, value to replace or none, greatest number of entries, whether a full table refuses
	local new, instead = ARGV[7], ARGV[9]
	if live and (instead == '' or value ~= instead) then
		return {number, FOUND, value, deadline - now, 0, idle and 1 or 0}
	end
	local left = make(new, now + ARGV[8], nil, nil, tonumber(ARGV[10]), ARGV[11] == '1')
	if not left then
		return {number, REFUSED}
	end
	return {number, FOUND, new, left, 1, 0}

elseif verb == 'swap' then -- old value, new value
	if not live or value ~= ARGV[7] then
		return {number, NONE}
	end
	redis.call('HSET', entry, 'v', ARGV[8])
	replace(value, ARGV[8], deadline)
	return {number, FOUND, ARGV[8], deadline - now}

elseif verb == 'increment' then -- delta, lifetime or 0, greatest length of a value, most entries, whether a full table refuses
	local delta, lifetime, width = ARGV[7], tonumber(ARGV[8]), tonumber(ARGV[9])
	if not live then
		if lifetime <= 0 or #delta > width then
			return {number, NONE}
		end
		local left = make(delta, now + lifetime, nil, nil, tonumber(ARGV[10]), ARGV[11] == '1')
		if not left then
			return {number, REFUSED}
		end
		return {number, FOUND, delta, left}
	end
	local sign, digits = string.match(value, '^([+-]?)0*(%d+)$')
	if not digits or #digits > 19 or #digits == 19 and digits > (sign == '-' and '9223372036854775808' or '9223372036854775807') then
		return {number, NONE}
	end
	redis.call('HSET', entry, 'v', (sign == '-' and digits ~= '0' and '-' or '') .. digits)
	local sum = redis.pcall('HINCRBY', entry, 'v', delta) -- exact, where this language's numbers are not
	if type(sum) == 'table' then
		redis.call('HSET', entry, 'v', string.sub(delta, 1, 1) == '-' and '-9223372036854775808' or '9223372036854775807')
	end
	sum = redis.call('HGET', entry, 'v')
	if #sum > width then
		redis.call('HSET', entry, 'v', value)
		return {number, NONE}
	end
	replace(value, sum, deadline)
	return {number, FOUND, sum, deadline - now}
end

return redis.error_reply('ERR no verb ' .. verb)
