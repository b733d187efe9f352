// Package redisstore keeps persistence tables in Redis or Valkey, so that several load balancers share them: a client that one of
// them has sent to a server sticks to it at all of them, and after each of them was restarted.
//
// A [Store] has the verbs of persistence.Store with the same meaning. Each verb is one script call on the server and atomic.
// Deadlines are kept on the server's clock; those of the instances do not matter.
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
// Redis from 7.0 and Valkey from 7.2, alone or as a cluster. Every table lives in one slot of a cluster. The server must speak
// RESP3. An entry is one key; besides, each table has an index of its entries, which bounds and counts them. An entry with key and
// value of about fifteen bytes each takes about 360 bytes of the server's memory. Let maxmemory-policy be noeviction, or
// volatile-ttl, which as a rule drops entries long before the index: others may drop the index first. [Store.CountByValue] and [Store.Range] then return errors for the
// longest lifetime, as soon as the loss shows: at the first call that changes an entry. Until then they may miss entries.
//
// # Near cache
//
// The store remembers values it has looked up and answers from memory as long as the server has promised to tell when one changes:
// look-ups that leave the lifetime as it is, see [Config.MinExtension], then take no call. A change made by one instance is seen by the
// others as soon as the message arrives, usually within a millisecond; until then they may find the old value. When a connection
// breaks nothing in the near cache is served any more; a break that shows in nothing but silence is found after about two seconds. If a message
// is lost, or never sent (as after SWAPDB), a value is served until it is [Config.NearAge] old, a minute by default, and never longer.
//
// After a write of its own the store asks the server at the next look-up. Tables that fail closed have no near cache.
//
// The server keeps a table of the keys that each instance remembers, bounded by its setting tracking-table-max-keys (a million). Once it is
// full, the server makes instances forget keys, which costs hits and nothing else. Set it to the number of instances times NearEntries, or
// to 0 for no bound; a key takes 28 bytes there, and 54 more for each instance that remembers it.
//
// # When the server is down
//
// A call waits for the server for [Config.Timeout] at most. The first call that fails for want of an answer drops the connection and
// opens the circuit: from then on nothing waits, until an attempt in the background, one every 100 milliseconds to every second,
// has found the server working. An outage that lasts longer than a second is logged as it happens, with the cause: nobody
// listens, a wrong password, a missing right, a database that is not there, TLS that fails, a server that is too old. Shorter ones
// are logged together, with their number; see [Config.Logger]. Meanwhile
// [Config.WhenDown] says for each table whether calls are answered from tables in memory, which begin with the values the instance saw
// last, or fail with [ErrUnavailable].
//
// An instance remembers the last [Config.NearEntries] values it saw or stored, each for the lifetime it saw, also after another
// instance has renewed, replaced or removed the entry: the server's message does not tell which. Such a copy is never served
// while the server can be asked. The instance forgets it when it removes the entry or finds it absent on the server. So a client
// that visits several instances keeps its server at all of them during an outage, and short outages move no client that the instance
// has seen.
//
// What was stored, claimed or touched in memory is given to the server when it is back, for two seconds at most, and so is a value that
// was looked up and that no other instance had changed before the outage. A key that is live on the server keeps what it
// has, and the instance remembers that. So of instances that have each claimed a key for another server, the first to give it back determines the server, and
// the others follow with their next look-up. Everything else that was done in memory is forgotten: removals, replaced values,
// increments and extensions. So tables that must not forget a removal belong in [Config.TablesWhenDown] as [FailClosed].
package redisstore
