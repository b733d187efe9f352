package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/limpetlb/limpet/persistence"
	"github.com/limpetlb/limpet/persistence/redisstore"
)

// A store is used like persistence.Store. Here no server listens at the
// address, so tables are in memory, except those that fail closed.
func Example() {
	store, err := redisstore.New(redisstore.Config{
		Addresses:      []string{"127.0.0.1:1"},
		Prefix:         "shop",
		TablesWhenDown: map[string]redisstore.WhenDown{"logins": redisstore.FailClosed},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close()
	ctx := context.Background()

	if _, err := store.Insert(ctx, "carts", "cart-42", "10.0.0.1:80", time.Hour); err != nil {
		fmt.Println(err)
	}
	server, _, ok, err := store.Lookup(ctx, "carts", "cart-42", 0)
	fmt.Println(server, ok, err)

	_, _, _, err = store.Lookup(ctx, "logins", "alice", 0)
	fmt.Println(errors.Is(err, redisstore.ErrUnavailable))
	// Output:
	// 10.0.0.1:80 true <nil>
	// true
}

// Clients that are active should not cost a call to the server with every
// request.
func ExampleConfig() {
	store, err := redisstore.New(redisstore.Config{
		Addresses:    []string{"redis.internal:6379"},
		Prefix:       "shop",
		Username:     "limpet",
		Password:     "secret",
		Options:      persistence.Options{Sliding: true, MaxLifetime: 24 * time.Hour},
		MinExtension: 2 * time.Minute, // with look-ups that extend by twenty
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close()
	fmt.Println(store.Stats().Up) // it connects with the first call
	// Output: false
}

// Range lists the entries. While the server is unavailable these are the
// entries of the instance; a count of them would be wrong.
func ExampleStore_CountByValue() {
	store, err := redisstore.New(redisstore.Config{Addresses: []string{"127.0.0.1:1"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close()
	ctx := context.Background()
	for _, client := range []string{"ann", "ben", "eve"} {
		store.Insert(ctx, "", client, "10.0.0.1:80", time.Hour)
	}
	_, err = store.CountByValue(ctx, "")
	fmt.Println(errors.Is(err, redisstore.ErrUnavailable))
	err = store.Range(ctx, "", func(key string, e persistence.Entry[string]) bool {
		fmt.Println(key, e.Value)
		return true
	})
	if err != nil {
		fmt.Println(err)
	}
	// Unordered output:
	// true
	// ann 10.0.0.1:80
	// ben 10.0.0.1:80
	// eve 10.0.0.1:80
}
