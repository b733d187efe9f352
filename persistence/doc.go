// Package persistence stores values by key for a limited time: usually the
// server that a client was sent to, so that the client sticks to it.
//
// # Types
//
// [Table] is a generic map in which every entry has a lifetime of its own. A
// program uses it alone:
//
//	sessions := persistence.NewTable[netip.Addr, string](persistence.Options{})
//	sessions.Insert(client, "10.0.0.7:8080", 20*time.Minute)
//	if server, left, ok := sessions.Lookup(client, 5*time.Minute); ok {
//		// the client sticks to server; the entry expires after left
//	}
//
// [Store] contains the named tables of one virtual service, with strings for
// keys and values. Its methods are the table functions of DataScripts
// (avi.vs.table_insert, table_lookup, table_refresh and table_remove) and
// others that scripts do not have, such as Put, CompareAndSwap and Increment.
//
// The persistence profiles [ClientIP], [HTTPCookie], [AppCookie] and
// [CustomHeader] find the server of an HTTP request and bind clients to
// servers. Their names say what identifies a client.
//
// # Lifetimes
//
// Insert keeps the value of a live key and starts a new lifetime. A lookup may
// extend the lifetime in the same step. By default the extension is added to
// the remaining lifetime, as the DataScript reference says, up to
// [Options.MaxLifetime]; with [Options.Sliding] the remaining lifetime is
// raised to the extension.
//
// An entry is readable before its deadline, never at or after it. Lifetimes use
// the monotonic clock: setting the wall clock changes none. On Linux and some
// other systems this clock stops while the machine is suspended.
//
// # Bounds and memory
//
// Untrusted clients fill tables, so everything is bounded by default: entries,
// lifetimes and, in a Store, the number of tables, the size of keys and values,
// and the memory of each table. [Options.WhenFull] says what a full table does.
// With [Options.Owner] an owner of many keys, such as the network of a client,
// cannot evict the entries of others.
//
// Tables start no goroutine and need no closing; they clean up as they are
// used. The memory of an expired entry is freed when its key is next looked up,
// refreshed or written, when it is the oldest entry of a full table, and
// otherwise within about n/16 writes in a table of n entries: each write that
// stores a value examines thirty-two entries in turn, so no single write is
// slow. A table that is no longer written to keeps its expired entries,
// unreadable, within its bounds. The index of a table does not shrink.
//
// # Restarts
//
// A Store can be written to a snapshot and restored from it, with the remaining
// lifetime of each entry; a [Saver] saves it to a file periodically. An entry
// with a key and a value of fifteen bytes each takes about 150 bytes of memory,
// in two allocations.
package persistence
