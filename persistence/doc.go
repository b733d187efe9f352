// Package persistence remembers, for a while, which value belongs to which key: usually the server
// a client was sent to, so that the client sticks to it.
//
// # Types
//
// [Table] is a generic map in which every entry has a lifetime of its own. A program uses it alone:
//
//	sessions := persistence.NewTable[netip.Addr, string](persistence.Options{})
//	sessions.Insert(client, "10.0.0.7:8080", 20*time.Minute)
//	if server, left, ok := sessions.Lookup(client, 5*time.Minute); ok {
//		// the client sticks to server, which is remembered for left
//	}
//
// [Store] holds the named tables of one virtual service, with strings for keys and values. Its
// methods are the table functions of DataScripts (avi.vs.table_insert, table_lookup, table_refresh
// and table_remove) and those that scripts lack, such as Put, CompareAndSwap and Increment.
//
// The persistence profiles [ClientIP], [HTTPCookie], [AppCookie] and [CustomHeader] find the server
// of an HTTP request by what their names say, and bind clients to servers.
//
// # Lifetimes
//
// Inserting under a key that is live keeps the value and starts a new lifetime. A lookup may extend
// the lifetime in the same step. By default it adds to what is left, as the DataScript reference
// words it, and what is left never exceeds [Options.MaxLifetime]; with [Options.Sliding] it makes
// sure that at least the extension is left.
//
// An entry is readable until its deadline and never at or after it. Lifetimes are measured on the
// monotonic clock: setting the wall clock changes none. On systems whose monotonic clock stands
// still while the machine is suspended (Linux is one), the time asleep does not count.
//
// # Bounds and memory
//
// Tables are meant to be filled by strangers, so everything is bounded by default: entries,
// lifetimes and, in a Store, the number of tables, the size of keys and values and the memory of
// each table. [Options.WhenFull] says who loses when a table is full. [Options.Owner] keeps one
// owner of many keys, such as the network of a client, from taking the place of others.
//
// There is no goroutine and nothing to close; tables clean up as they are used. The memory of an
// expired entry is freed when its key is next looked up, refreshed or written, when it is the oldest
// and a full table needs its place, and otherwise within about a sixteenth as many writes as the
// table has entries: each write that stores a value examines thirty-two entries in turn, so that no
// write pays for many. A table that is no longer written to keeps its expired entries, unreadable,
// within its bounds. The index of a table keeps the room it needed at its fullest.
//
// # Restarts
//
// A Store can be written as a snapshot and restored, with what is left of each lifetime; a [Saver]
// keeps a file up to date. An entry with a key and a value of fifteen bytes each takes about 150
// bytes of memory, in two allocations.
package persistence
