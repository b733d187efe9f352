package persistencetest_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/limpetlb/limpet/persistence"
	"github.com/limpetlb/limpet/persistence/persistencetest"
)

// The store of package persistence is one.
var _ persistencetest.Store = (*persistence.Store)(nil)

// auditedStore is the store of a program.
type auditedStore struct{ *persistence.Store }

func (s auditedStore) Remove(ctx context.Context, table, key string) error {
	fmt.Printf("remove %q from %q\n", key, table)
	return s.Store.Remove(ctx, table, key)
}

// A store is tested by one call in a test of its package.
func Example() {
	newStore := func() persistencetest.Store {
		return auditedStore{persistence.NewStore(persistence.Options{})}
	}
	testStore := func(t *testing.T) {
		persistencetest.Run(t, persistencetest.Options{Virtual: true}, func(*testing.T) persistencetest.Store {
			return newStore()
		})
	}
	_ = testStore // go test calls it

	store := newStore()
	store.Insert(context.Background(), "carts", "cart-42", "10.0.0.1:80", time.Hour)
	store.Remove(context.Background(), "carts", "cart-42")
	// Output: remove "cart-42" from "carts"
}
