package linear

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"go.uber.org/goleak"

	"github.com/limpetlb/limpet/internal/redistest"
	"github.com/limpetlb/limpet/persistence"
	"github.com/limpetlb/limpet/persistence/redisstore"
)

var long = flag.Bool("long", false, "check 1,000 concurrent histories")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// histories is how many runs of overlapping calls are checked: few by default,
// because each call goes to the server.
func histories() int {
	switch {
	case *long:
		return 1000
	case testing.Short():
		return 50
	}
	return 100
}

// open returns a store that is connected to the server.
func open(t *testing.T, server *redistest.Server, c redisstore.Config) *redisstore.Store {
	t.Helper()
	c.Addresses = []string{server.Addr}
	c.Timeout = time.Minute // in which a busy machine answers
	s, err := redisstore.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if err := s.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// register is the state of one key: its value, and whether it has one.
type register struct {
	value string
	live  bool
}

type input struct {
	verb, key, value, old string
	delta                 int64
}

type output struct {
	value string
	ok    bool
}

// registers is what a table means for concurrent calls, key by key. Lifetimes
// are long enough to play no part.
var registers = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byKey := make(map[string][]porcupine.Operation)
		for _, op := range history {
			key := op.Input.(input).key
			byKey[key] = append(byKey[key], op)
		}
		var parts [][]porcupine.Operation
		for _, part := range byKey {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() any { return register{} },
	Step: func(state, i, o any) (bool, any) {
		r, in, out := state.(register), i.(input), o.(output)
		switch in.verb {
		case "lookup":
			return out.ok == r.live && out.value == r.value, r
		case "refresh", "touch":
			return out.ok == r.live, r
		case "insert":
			if !r.live {
				r = register{in.value, true}
			}
			return out.ok, r
		case "lookupOrInsert":
			found := r.live
			if !found {
				r = register{in.value, true}
			}
			return out.ok == found && out.value == r.value, r
		case "put":
			return out.ok, register{in.value, true}
		case "remove":
			return true, register{}
		case "swap":
			if out.ok != (r.live && r.value == in.old) {
				return false, r
			}
			if out.ok {
				r.value = in.value
			}
			return true, r
		case "claim":
			if !r.live || in.old != "" && r.value == in.old {
				r = register{in.value, true}
			}
			return out.ok && out.value == r.value, r
		case "increment":
			n := int64(0)
			if r.live {
				n, _ = strconv.ParseInt(r.value, 10, 64)
			}
			sum := strconv.FormatInt(n+in.delta, 10)
			return out.ok && out.value == sum, register{sum, true}
		}
		return false, r
	},
	Equal: func(a, b any) bool { return a == b },
	DescribeOperation: func(in, out any) string {
		return fmt.Sprintf("%+v: %+v", in, out)
	},
}

// verbs are what both stores have.
type verbs interface {
	Insert(ctx context.Context, table, key, value string, lifetime time.Duration) (bool, error)
	Put(ctx context.Context, table, key, value string, lifetime time.Duration) (bool, error)
	LookupOrInsert(ctx context.Context, table, key, value string, lifetime time.Duration) (string, time.Duration, bool, error)
	Lookup(ctx context.Context, table, key string, extend time.Duration) (string, time.Duration, bool, error)
	Refresh(ctx context.Context, table, key string, extend time.Duration) (bool, error)
	Touch(ctx context.Context, table, key string, lifetime time.Duration) (bool, error)
	Remove(ctx context.Context, table, key string) error
	CompareAndSwap(ctx context.Context, table, key, old, new string) (bool, error)
	Increment(ctx context.Context, table, key string, delta int64, lifetime time.Duration) (int64, bool, error)
}

// A claimer is a store with claims.
type claimer interface {
	Claim(ctx context.Context, table, key, value, instead string, lifetime time.Duration) (string, time.Duration, error)
}

func do(ctx context.Context, s verbs, table string, in input, extend time.Duration) (out output, err error) {
	switch in.verb {
	case "lookup":
		out.value, _, out.ok, err = s.Lookup(ctx, table, in.key, extend)
	case "refresh":
		out.ok, err = s.Refresh(ctx, table, in.key, extend)
	case "touch":
		out.ok, err = s.Touch(ctx, table, in.key, time.Hour)
	case "insert":
		out.ok, err = s.Insert(ctx, table, in.key, in.value, time.Hour)
	case "lookupOrInsert":
		out.value, _, out.ok, err = s.LookupOrInsert(ctx, table, in.key, in.value, time.Hour)
	case "put":
		out.ok, err = s.Put(ctx, table, in.key, in.value, time.Hour)
	case "remove":
		err = s.Remove(ctx, table, in.key)
	case "swap":
		out.ok, err = s.CompareAndSwap(ctx, table, in.key, in.old, in.value)
	case "claim":
		var left time.Duration
		out.value, left, err = s.(claimer).Claim(ctx, table, in.key, in.value, in.old, time.Hour)
		out.ok = left > 0
	case "increment":
		var sum int64
		sum, out.ok, err = s.Increment(ctx, table, in.key, in.delta, time.Hour)
		out.value = strconv.FormatInt(sum, 10)
	}
	return out, err
}

// TestLinearizable records what eight clients do at a time to three keys and
// asks whether some order of the calls explains all answers. One store with its
// near cache must pass like one without; several stores that share a server
// only without.
func TestLinearizable(t *testing.T) {
	server := redistest.Start(t)
	shared := open(t, server, redisstore.Config{Prefix: "b", NearEntries: -1})
	other := open(t, server, redisstore.Config{Prefix: "b", NearEntries: -1})
	near := open(t, server, redisstore.Config{Prefix: "a"})
	memory := persistence.NewStore(persistence.Options{})
	for _, tt := range []struct {
		name   string
		stores []verbs
	}{
		{"memory", []verbs{memory}},
		{"redis with near cache", []verbs{near}},
		{"two on one redis", []verbs{shared, other}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			const clients, each = 8, 16
			for n := range histories() {
				table := strconv.Itoa(n)
				if n >= 64 {
					table = "" // a store in memory has so many; keys differ as well
				}
				start := time.Now()
				var mu sync.Mutex
				var history []porcupine.Operation
				var wg sync.WaitGroup
				for client := range clients {
					wg.Go(func() {
						rng := rand.New(rand.NewPCG(uint64(n), uint64(client)))
						s := tt.stores[client%len(tt.stores)]
						values := []string{"1", "2", "3"}
						verbs := []string{"lookup", "lookup", "lookup", "lookup", "lookup", "lookup", "lookup", "lookup", "lookup", "lookup", "refresh", "touch", "insert", "lookupOrInsert", "put", "remove", "swap", "increment"}
						if _, ok := s.(claimer); ok {
							verbs = append(verbs, "claim", "claim", "claim")
						}
						for range each {
							in := input{
								verb: verbs[rng.IntN(len(verbs))], key: strconv.Itoa(n) + "/" + strconv.Itoa(rng.IntN(3)),
								value: values[rng.IntN(3)], old: values[rng.IntN(3)], delta: rng.Int64N(3) - 1,
							}
							if in.verb == "claim" && rng.IntN(2) == 0 {
								in.old = ""
							}
							call := time.Since(start)
							out, err := do(t.Context(), s, table, in, time.Duration(rng.IntN(8)/7)*time.Second)
							if err != nil {
								t.Error(err)
								return
							}
							op := porcupine.Operation{
								ClientId: client, Input: in, Output: out, Call: int64(call), Return: int64(time.Since(start)),
							}
							mu.Lock()
							history = append(history, op)
							mu.Unlock()
						}
					})
				}
				wg.Wait()
				if !porcupine.CheckOperations(registers, history) {
					t.Fatalf("history %d is not linearizable:\n%v", n, history)
				}
			}
			t.Logf("%d histories of %d calls", histories(), clients*each)
		})
	}
	if stats := near.Stats(); stats.NearHits == 0 {
		t.Error("the near cache has not taken part")
	} else {
		t.Logf("%d near hits, %d answers of the server", stats.NearHits, stats.Answered)
	}
}
