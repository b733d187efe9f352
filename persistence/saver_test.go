package persistence

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestSaverStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		files := &memoryFiles{contents: map[string]*bytes.Buffer{}, fail: map[string]error{}}
		s := &Saver{Store: NewStore(Options{}), Path: "tables", Interval: time.Minute, files: files}
		if st := s.Stats(); st != (SaverStats{}) {
			t.Errorf("before Run: %+v", st)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		begun := time.Now()
		go func() { done <- s.Run(ctx) }()
		time.Sleep(90 * time.Second)
		synctest.Wait()
		first := s.Stats()
		if !first.LastSuccess.Equal(begun.Add(time.Minute)) || first.Saves != 1 || first.Failures != 0 || first.Bytes <= 0 {
			t.Errorf("after a save: %+v", first)
		}
		s.Store.Put(ctx, "t", "k", "v", time.Hour)
		files.mu.Lock()
		files.fail["rename"] = errors.New("disk")
		files.mu.Unlock()
		time.Sleep(31 * time.Second)
		synctest.Wait()
		failed := s.Stats()
		if failed.Failures == 0 || !failed.LastSuccess.Equal(first.LastSuccess) || failed.Bytes != first.Bytes || failed.Saves != 1 {
			t.Errorf("after a failure: %+v", failed)
		}
		files.mu.Lock()
		clear(files.fail)
		files.mu.Unlock()
		stop()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		last := s.Stats()
		if !last.LastSuccess.Equal(time.Now()) || last.Saves != 2 || last.Failures != failed.Failures || last.Bytes <= first.Bytes {
			t.Errorf("at the end: %+v", last)
		}
	})
}
