package redisstore

import (
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/limpetlb/limpet/internal/redistest"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/persistence"
)

func TestClaim(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	away, err := New(Config{Addresses: []string{nowhere(t)}})
	if err != nil {
		t.Fatal(err)
	}
	defer away.Close()
	options := persistence.Options{MaxValueBytes: 100}
	for name, s := range map[string]*Store{
		"near cache":    open(t, server, Config{Prefix: "a", Options: options}),
		"no near cache": open(t, server, Config{Prefix: "b", NearEntries: -1, Options: options}),
		"fails closed":  open(t, server, Config{Prefix: "c", WhenDown: FailClosed, Options: options}),
		"server away":   away,
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			for _, tt := range []struct {
				name           string
				before         string // live value, for an hour
				value, instead string
				lifetime       time.Duration
				want           string
				wantLeft       time.Duration
			}{
				{"first", "", "a", "", time.Minute, "a", time.Minute},
				{"taken", "b", "a", "", time.Minute, "b", time.Hour},
				{"own", "a", "a", "", time.Minute, "a", time.Hour},
				{"instead of what is there", "b", "a", "b", time.Minute, "a", time.Minute},
				{"instead of something else", "c", "a", "b", time.Minute, "c", time.Hour},
				{"instead of nothing", "", "a", "b", time.Minute, "a", time.Minute},
				{"no lifetime", "b", "a", "", 0, "", 0},
				{"negative lifetime", "", "a", "", -time.Second, "", 0},
				{"long value", "", strings.Repeat("x", 1<<16), "", time.Minute, "", 0},
				{"long instead", "b", "a", strings.Repeat("x", 1<<21), time.Minute, "b", time.Hour},
			} {
				t.Run(tt.name, func(t *testing.T) {
					key := tt.name
					if tt.before != "" {
						s.Put(ctx, "", key, tt.before, time.Hour)
						s.Lookup(ctx, "", key, 0)
						s.Lookup(ctx, "", key, 0)
					}
					actual, left, err := s.Claim(ctx, "", key, tt.value, tt.instead, tt.lifetime)
					if actual != tt.want || left > tt.wantLeft || left < tt.wantLeft-tt.wantLeft/10 || err != nil {
						t.Errorf("Claim: %q, %v, %v, want %q, %v", actual, left, err, tt.want, tt.wantLeft)
					}
					value, _, _, err := s.Lookup(ctx, "", key, 0)
					if tt.want != "" && value != tt.want || err != nil {
						t.Errorf("Lookup: %q, %v, want %q", value, err, tt.want)
					}
				})
			}
			s.PutIdle(ctx, "", "idle", "b", time.Minute, time.Hour)
			if actual, left, err := s.Claim(ctx, "", "idle", "a", "", time.Hour); actual != "b" || left > time.Minute || err != nil {
				t.Errorf("an idle lifetime: %q, %v, %v", actual, left, err)
			}
		})
	}
	full := open(t, server, Config{Prefix: "f", Options: persistence.Options{MaxEntries: 1, WhenFull: persistence.RefuseNew}})
	full.Put(t.Context(), "", "k", "v", time.Hour)
	if actual, left, err := full.Claim(t.Context(), "", "new", "a", "", time.Hour); actual != "" || left != 0 || err != nil {
		t.Errorf("a full table: %q, %v, %v", actual, left, err)
	}
	server.Command("CONFIG", "SET", "maxmemory", "1mb")
	if actual, left, err := full.Claim(t.Context(), "", "k", "a", "", time.Hour); actual != "v" || left == 0 || err != nil {
		t.Errorf("a server without memory, a live key: %q, %v, %v", actual, left, err)
	}
	if actual, left, err := full.Claim(t.Context(), "", "new", "a", "", time.Hour); actual != "" || left != 0 || err != nil {
		t.Errorf("a server without memory: %q, %v, %v", actual, left, err)
	}
}

// Of many first requests of one client, which reach several instances at once,
// each had its own server.
func TestOneClaimWins(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	ctx := t.Context()
	stores := make([]*Store, 8)
	for i := range stores {
		stores[i] = open(t, server, Config{})
	}
	rounds := 100
	switch {
	case *long:
		rounds = 10_000
	case testing.Short():
		rounds = 10
	}
	for round := range rounds {
		key := strconv.Itoa(round)
		instead := ""
		for again := range 2 { // first bindings, then all move from a server that has failed
			values := make([]string, 64)
			var wg sync.WaitGroup
			for i := range values {
				wg.Go(func() {
					s := stores[i%len(stores)]
					s.Lookup(ctx, "", key, 0)
					value, left, err := s.Claim(ctx, "", key, strconv.Itoa(again)+"/"+strconv.Itoa(i), instead, time.Hour)
					if left <= 0 || err != nil {
						t.Error(left, err)
					}
					values[i] = value
				})
			}
			wg.Wait()
			for _, value := range values {
				if value != values[0] || value == instead {
					t.Fatalf("round %d: instead of %q: %q", round, instead, values)
				}
			}
			instead = values[0]
		}
	}
}

// All instances must know what was claimed during an outage once the server is
// back, also what was claimed at the moment of its return.
func TestClaimsAreGivenBack(t *testing.T) {
	t.Parallel()
	for _, instances := range some([]int{4, 1}) {
		t.Run(strconv.Itoa(instances), func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			server := redistest.Start(t)
			stores := make([]*Store, instances)
			for i := range stores {
				stores[i] = open(t, server, Config{Timeout: 5 * time.Second})
			}
			type claim struct{ key, value string }
			claims := make([][]claim, instances)
			const keys = 20_000
			for round := range 2 {
				var stop atomic.Bool
				var wg sync.WaitGroup
				server.Kill()
				for i, s := range stores {
					wg.Go(func() {
						for n := 0; n < keys && !stop.Load(); n++ {
							key := strconv.Itoa(round) + "/" + strconv.Itoa(n)
							value, left, err := s.Claim(ctx, "", key, "from "+strconv.Itoa(i), "", time.Hour)
							if left <= 0 || err != nil {
								t.Errorf("Claim: %q, %v, %v", value, left, err)
								return
							}
							claims[i] = append(claims[i], claim{key, value})
							<-time.After(500 * time.Microsecond)
						}
					})
				}
				testwait.Until(t, "loss", func() bool { return !stores[0].Stats().Up })
				<-time.After(100 * time.Millisecond)
				server.Restart()
				for _, s := range stores {
					testwait.Until(t, "recovery", func() bool { return s.Stats().Up })
				}
				<-time.After(50 * time.Millisecond)
				stop.Store(true)
				wg.Wait()
				<-time.After(2 * firstPause)
				lost, wrong, followed := 0, 0, 0
				for i, s := range stores {
					for _, c := range claims[i] {
						first, _, ok, err := stores[0].Lookup(ctx, "", c.key, 0)
						if err != nil {
							t.Fatal(err)
						}
						value, _, _, err := s.Lookup(ctx, "", c.key, 0)
						switch {
						case err != nil:
							t.Fatal(err)
						case !ok:
							lost++
						case value != first || instances == 1 && value != c.value:
							wrong++
						case value != c.value:
							followed++
						}
					}
					if st := s.Stats(); st.Dropped > 0 || st.Returned == 0 {
						t.Errorf("%+v", st)
					}
					claims[i] = claims[i][:0] // the next Kill loses what the server had
				}
				t.Logf("%d lost, %d wrong, %d follow another instance", lost, wrong, followed)
				if lost > 0 || wrong > 0 {
					t.Errorf("%d claims lost, %d wrong", lost, wrong)
				}
			}
		})
	}
}
