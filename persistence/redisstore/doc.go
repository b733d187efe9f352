// Package redisstore stores persistence tables in Redis or Valkey, so that
// several load balancers share them: a client that one of them has sent to a
// server sticks to it at all of them, and still does after each of them has
// been restarted.
//
// A [Store] has the methods of persistence.Store with the same meaning. Each
// method is one script call on the server and atomic. Deadlines use the
// server's clock; the clocks of the instances do not matter.
//
//	store, err := redisstore.New(redisstore.Config{Addresses: []string{"10.0.0.5:6379"}, Prefix: "shop"})
//	if err != nil {
//		return err
//	}
//	defer store.Close()
//	vs, err := limpet.New(limpet.Config{Tables: store, …})
//
// # Server
//
// The server is Redis 7.0 or later or Valkey 7.2 or later, alone or as a
// cluster, and must speak RESP3. Each table is in one slot of a cluster. An
// entry is one key; each table also has an index of its entries, which bounds
// and counts them. An entry with a key and a value of about fifteen bytes each
// takes about 360 bytes of the server's memory.
//
// Set maxmemory-policy to noeviction, or to volatile-ttl, which normally evicts
// entries long before the index. Other policies may evict the index first.
// [Store.CountByValue] and [Store.Range] then return errors for the longest
// lifetime, from the first call that changes an entry; until that call they may
// miss entries.
//
// # Near cache
//
// The store caches values that it has looked up. As long as the server
// guarantees to report changes, it answers look-ups that do not extend the
// lifetime (see [Config.MinExtension]) from this cache, without a call. The
// other instances see a change of one instance as soon as the message arrives,
// usually within a millisecond; until then they may find the old value. When a
// connection breaks, nothing in the near cache is served any more; a connection
// that is silently broken is detected after about two seconds. If a message is
// lost, or never sent (as after SWAPDB), a value is served until it is
// [Config.NearAge] old, a minute by default, and no longer.
//
// After its own write the store asks the server at the next look-up. Tables
// that fail closed have no near cache.
//
// The server has a table of the keys that each instance caches, bounded by its
// setting tracking-table-max-keys (a million). Once it is full, the server
// makes instances drop keys, which costs hits and nothing else. Set it to the
// number of instances times NearEntries, or to 0 for no bound. A key takes 28
// bytes there, and 54 more for each instance that caches it.
//
// # When the server is down
//
// A call waits for the server for at most [Config.Timeout]. The first call
// without an answer drops the connection and opens the circuit: from then on no
// call waits, until an attempt in the background, every 100 milliseconds to
// every second, has found the server working. An outage longer than a second is
// logged as it happens, with the cause: a refused connection, a wrong password,
// a missing permission, a missing database, a failed TLS handshake, a server
// that is too old. Shorter outages are logged together, with their number; see
// [Config.Logger]. During an outage, [Config.WhenDown] says for each table
// whether calls are answered from tables in memory, which start with the values
// the instance saw last, or fail with [ErrUnavailable].
//
// An instance remembers the last [Config.NearEntries] values it saw or stored,
// each for the lifetime it saw, even after another instance has renewed,
// replaced or removed the entry, because the server's message does not say
// which. Such a copy is never served while the server is available. The
// instance drops it when it removes the entry or finds it missing on the
// server. So a client that uses several instances keeps its server at all of
// them during an outage, and a short outage moves no client that the instance
// has seen.
//
// When the server is back, the store writes to it what was stored, claimed or
// touched in memory, for at most two seconds, and values that were looked up
// and that no other instance had changed before the outage. A key that is live
// on the server keeps its value, and the instance adopts that. If several
// instances have claimed a key for different servers, the first to write it
// back wins, and the others follow with their next look-up. All other changes
// in memory are lost: removals, replaced values, increments and extensions. A
// table that must not lose a removal belongs in [Config.TablesWhenDown] with
// [FailClosed].
package redisstore
