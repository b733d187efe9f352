// Package persistencetest tests a store of persistence entries: whether it does
// the same as limpet's own store. Use it for a store of your own, such as one
// on a database that several load balancers share. One test of that store calls
// [Run]:
//
//	func TestStore(t *testing.T) {
//		persistencetest.Run(t, persistencetest.Options{}, func(t *testing.T) persistencetest.Store {
//			return newStore(t) // empty
//		})
//	}
//
// Run compares every result of the store with that of a simple model. The model
// knows how long each call took, so a slow or remote store passes too; when an
// entry is about to expire, both results are accepted. A store that reads the
// time from package time can be tested in virtual time, see [Options.Virtual];
// the tests then do not wait, and are exact to the nanosecond.
package persistencetest
