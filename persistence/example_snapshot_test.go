package persistence_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/limpetlb/limpet/persistence"
)

// A snapshot moves entries to another store, with what is left of their
// lifetimes.
func ExampleStore_WriteTo() {
	ctx := context.Background()
	store := persistence.NewStore(persistence.Options{})
	store.Insert(ctx, "carts", "cart-42", "10.0.0.1:80", time.Hour)
	var snapshot bytes.Buffer
	if _, err := store.WriteTo(&snapshot); err != nil {
		fmt.Println(err)
	}

	other := persistence.NewStore(persistence.Options{})
	if _, err := other.ReadFrom(&snapshot); err != nil {
		fmt.Println(err)
	}
	server, left, _, _ := other.Lookup(ctx, "carts", "cart-42", 0)
	fmt.Println(server, left.Round(time.Minute))
	// Output: 10.0.0.1:80 1h0m0s
}

// A program loads its entries when it starts and saves them while it runs and
// when it stops.
func ExampleSaver() {
	directory, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(directory)
	path := filepath.Join(directory, "tables")

	run := func() {
		store := persistence.NewStore(persistence.Options{})
		var damaged *persistence.SnapshotError
		switch err := store.LoadFile(path); {
		case errors.Is(err, fs.ErrNotExist):
			fmt.Println("first start")
		case errors.As(err, &damaged):
			fmt.Println("starting without entries:", damaged)
		case err != nil:
			fmt.Println(err)
			return
		}
		ctx, stop := context.WithCancel(context.Background())
		stopped := make(chan error)
		saver := &persistence.Saver{Store: store, Path: path, Interval: time.Minute}
		go func() { stopped <- saver.Run(ctx) }()

		// Here the program works.
		visits, _, _ := store.Increment(ctx, "", "starts", 1, 24*time.Hour)
		fmt.Println("start", visits)

		stop()
		if err := <-stopped; err != nil {
			fmt.Println(err)
		}
	}
	run()
	run()
	// Output:
	// first start
	// start 1
	// start 2
}
