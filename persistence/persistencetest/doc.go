// Package persistencetest checks that a store of persistence entries does what limpet's own store
// does, for those who write another one: on a database, for instance, that several load balancers
// share. One test of that store calls [Run]:
//
//	func TestStore(t *testing.T) {
//		persistencetest.Run(t, persistencetest.Options{}, func(t *testing.T) persistencetest.Store {
//			return newStore(t) // empty
//		})
//	}
//
// Every answer of the store is compared with that of a simple model. The model knows how long each
// call took, so that a store which is slow or far away passes as well; where an entry is about to
// expire both answers are right. A store that takes its time from package time can be tested in
// virtual time, see [Options.Virtual]; then nothing is waited for and every nanosecond counts.
package persistencetest
