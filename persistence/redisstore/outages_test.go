package redisstore

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// The server was gone for nine seconds and the log said nothing, because it had
// been gone for a moment just before. And a server that was slow now and then
// must not fill the log.
func TestOutagesAreLogged(t *testing.T) {
	cause, refused := errors.New("no answer in time"), errors.New("connection refused")
	type outage struct{ after, lasts time.Duration }
	every := func(n int, after, lasts time.Duration) (list []outage) {
		return slices.Repeat([]outage{{after, lasts}}, n)
	}
	for _, tt := range []struct {
		name    string
		outages []outage
		rest    time.Duration
		want    []string
	}{
		{"long", []outage{{time.Hour, 9 * time.Second}}, time.Hour, []string{
			"1h0m2s WARN lost", "1h0m9s INFO found",
		}},
		{"long after a short one", []outage{{time.Hour, 300 * time.Millisecond}, {time.Second, 9500 * time.Millisecond}}, time.Hour, []string{
			"1h0m3s WARN lost", "1h0m10s WARN lost for moments: 1", "1h0m10s INFO found",
		}},
		{"long after a long one", []outage{{time.Hour, 9 * time.Second}, {time.Second, 9 * time.Second}}, time.Hour, []string{
			"1h0m2s WARN lost", "1h0m9s INFO found", "1h0m12s WARN lost", "1h0m19s INFO found",
		}},
		{"between two attempts", []outage{{time.Hour, 1500 * time.Millisecond}}, time.Hour, []string{
			"1h0m1s WARN lost", "1h0m1s INFO found",
		}},
		{"hours", []outage{{0, 2 * time.Hour}}, 0, []string{
			"2s WARN lost", "1m2s WARN unreachable", "10m2s WARN unreachable", "1h10m2s WARN unreachable", "2h0m0s INFO found",
		}},
		{"short", []outage{{time.Hour, 300 * time.Millisecond}}, time.Hour, []string{"1h0m10s WARN lost for moments: 1"}},
		{"seven short ones", every(7, time.Second, 300*time.Millisecond), time.Hour, []string{"11s WARN lost for moments: 7"}},
		{"short ones for ten minutes", every(300, 1100*time.Millisecond, time.Second), time.Hour, []string{
			"12s WARN lost for moments: 5", "1m12s WARN lost for moments: 29", "11m12s WARN lost for moments: 266",
		}},
		{"closed before they are told", every(3, time.Second, 300*time.Millisecond), 0, []string{"3s WARN lost for moments: 3"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var j journal
				s, err := New(Config{Addresses: []string{"127.0.0.1:1"}, Logger: j.logger()})
				if err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				for _, o := range tt.outages {
					time.Sleep(o.after)
					since := time.Now()
					s.mu.Lock()
					s.outages.lost(cause)
					s.mu.Unlock()
					for left := o.lasts; left > time.Second; left -= time.Second {
						time.Sleep(time.Second)
						s.mu.Lock()
						notes := s.outages.failed(time.Now(), since, refused)
						s.mu.Unlock()
						s.logNote(notes)
					}
					time.Sleep(time.Until(since.Add(o.lasts)))
					s.mu.Lock()
					notes, begins := s.outages.found(time.Now(), since)
					s.mu.Unlock()
					if begins {
						s.connecting.Go(s.logShortOutages)
					}
					for _, n := range notes {
						s.logNote(n)
					}
				}
				time.Sleep(tt.rest)
				s.Close()
				var got []string
				for _, line := range j.lines(t) {
					text := fmt.Sprintf("%v %s %s", line.Time.Sub(start).Truncate(time.Second), line.Level, line.Msg[len("persistence store "):])
					if line.Times > 0 {
						text += fmt.Sprintf(": %d", line.Times)
					}
					if line.Level == slog.LevelWarn.String() && line.Error == "" {
						t.Errorf("no cause: %+v", line)
					}
					got = append(got, text)
				}
				if !slices.Equal(got, tt.want) {
					t.Errorf("%q, want %q", got, tt.want)
				}
			})
		})
	}
}
