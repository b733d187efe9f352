package persistence

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/limpetlb/limpet/internal/bounds"
	"github.com/limpetlb/limpet/internal/fielderr"
)

// firstRetry is the longest wait of a Saver after a first error; the wait then
// doubles.
const firstRetry = time.Second

// A Saver saves a store to a file periodically, so that a program that is
// stopped or killed has its entries again after a restart. Load them with
// [Store.LoadFile] before the first request. The fields must not change while
// Run runs.
type Saver struct {
	// Store is the store to save. It is required.
	Store *Store
	// Path is the path of the file, see [Store.SaveFile]. It is required.
	Path string
	// Interval is the pause between two saves. Zero means a minute.
	Interval time.Duration `default:"1m" min:"0s"`
	// Logger logs each error and the first success after it. Nil discards them.
	Logger *slog.Logger

	files files // nil: those of the operating system

	mu    sync.Mutex
	stats SaverStats
}

// SaverStats are the counts of a [Saver].
type SaverStats struct {
	LastSuccess time.Time // when the latest save ended; zero: none has
	Saves       uint64    // that succeeded
	Failures    uint64    // saves that failed, each try for itself
	Bytes       int64     // size of the file at LastSuccess
}

// Stats returns the present counts. It may be called while Run runs.
func (s *Saver) Stats() SaverStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// Run saves until ctx ends, then once more, and returns the error of that last
// save; nil means that the file has the content of the store. It starts no
// goroutine. After an error it retries after a second, or Interval if that is
// shorter, and doubles the pause after each further error, up to Interval. It
// returns a [*FieldError] at once if Interval is negative.
func (s *Saver) Run(ctx context.Context) error {
	var faults fielderr.List
	bounds.Check("", s, &faults)
	if err := faults.Err(); err != nil {
		return err
	}
	interval := cmp.Or(s.Interval, time.Minute)
	logger := s.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	wait := interval
	failed := 0
	for {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return s.save()
		case <-timer.C:
		}
		if err := s.save(); err != nil {
			wait = min(interval, firstRetry<<min(failed, 30))
			failed++
			logger.LogAttrs(ctx, slog.LevelError, "persistence tables not saved",
				slog.String("path", s.Path), slog.Any("error", err), slog.Duration("retry", wait))
			continue
		}
		if failed > 0 {
			logger.LogAttrs(ctx, slog.LevelInfo, "persistence tables saved again", slog.String("path", s.Path))
		}
		wait, failed = interval, 0
	}
}

func (s *Saver) save() error {
	files := s.files
	if files == nil {
		files = diskFiles{}
	}
	n, err := s.Store.saveFile(files, s.Path)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.stats.Failures++
		return err
	}
	s.stats = SaverStats{time.Now(), s.stats.Saves + 1, s.stats.Failures, n}
	return nil
}
