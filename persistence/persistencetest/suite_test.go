package persistencetest_test

import (
	"context"
	"maps"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/limpetlb/limpet/persistence"
	"github.com/limpetlb/limpet/persistence/persistencetest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

func TestStore(t *testing.T) {
	for _, tt := range []struct {
		name    string
		test    persistencetest.Options
		options persistence.Options
	}{
		{"default", persistencetest.Options{Virtual: true}, persistence.Options{}},
		{"sliding", persistencetest.Options{Virtual: true, Sliding: true}, persistence.Options{Sliding: true}},
		{"short lifetimes", persistencetest.Options{Virtual: true, MaxLifetime: 2 * time.Hour}, persistence.Options{MaxLifetime: 2 * time.Hour}},
		{"real time", persistencetest.Options{Unit: 20 * time.Millisecond, Tolerance: 2 * time.Millisecond}, persistence.Options{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if !tt.test.Virtual {
				t.Parallel()
			}
			persistencetest.Run(t, tt.test, func(*testing.T) persistencetest.Store { return persistence.NewStore(tt.options) })
		})
	}
}

// TestSlowStore has a store that answers late and rounds as remote ones do.
func TestSlowStore(t *testing.T) {
	t.Parallel()
	o := persistencetest.Options{Unit: 50 * time.Millisecond, Tolerance: 10 * time.Millisecond}
	persistencetest.Run(t, o, func(*testing.T) persistencetest.Store {
		return &remoteStore{Store: persistence.NewStore(persistence.Options{})}
	})
}

// On a busy machine a store failed the test of CountByValue, because an entry
// had expired that was stored a unit ago, when the answer came late.
func TestLateAnswers(t *testing.T) {
	persistencetest.Run(t, persistencetest.Options{Virtual: true}, func(*testing.T) persistencetest.Store {
		return lateStore{persistence.NewStore(persistence.Options{})}
	})
}

// A store with a cache failed on a busy machine: what it remembers of an entry
// has less of its lifetime, by the time that it took to fetch.
func TestNearAnswers(t *testing.T) {
	persistencetest.Run(t, persistencetest.Options{Virtual: true}, func(*testing.T) persistencetest.Store {
		return &nearStore{lateStore: lateStore{persistence.NewStore(persistence.Options{})}}
	})
}

type nearStore struct {
	lateStore
	late atomic.Bool // an answer was
}

func (s *nearStore) Insert(ctx context.Context, table, key, value string, lifetime time.Duration) (bool, error) {
	s.late.Store(true)
	return s.lateStore.Insert(ctx, table, key, value, lifetime)
}

func (s *nearStore) Lookup(ctx context.Context, table, key string, extend time.Duration) (string, time.Duration, bool, error) {
	value, left, ok, err := s.Store.Lookup(ctx, table, key, extend)
	if ok && s.late.Load() {
		left = max(1, left-late)
	}
	return value, left, ok, err
}

// lateStore answers calls of Insert when a tenth of a unit has passed.
type lateStore struct{ *persistence.Store }

const late = 5500 * time.Millisecond

func (s lateStore) Insert(ctx context.Context, table, key, value string, lifetime time.Duration) (bool, error) {
	defer func() { <-time.After(late) }()
	return s.Store.Insert(ctx, table, key, value, lifetime)
}

// remoteStore is a store at a distance. It has no PutIdle.
type remoteStore struct {
	*persistence.Store
	PutIdle struct{} // hides that of the store
	calls   atomic.Int64
}

func (s *remoteStore) Lookup(ctx context.Context, table, key string, extend time.Duration) (string, time.Duration, bool, error) {
	if s.calls.Add(1)%10 == 0 {
		<-time.After(time.Millisecond)
		defer func() { <-time.After(time.Millisecond) }()
	}
	value, left, ok, err := s.Store.Lookup(ctx, table, key, extend)
	return value, left.Round(time.Millisecond), ok, err
}

// faults are stores with one fault each, and a test that must find it.
var faults = []struct {
	name string
	test string
	make func(s *persistence.Store) persistencetest.Store
}{
	{"Insert overwrites", "inserting_keeps_a_live_value", func(s *persistence.Store) persistencetest.Store { return overwriting{s} }},
	{"Lookup extends by default", "extending", func(s *persistence.Store) persistencetest.Store { return extending{s} }},
	{"tables are one", "tables_are_separate", func(s *persistence.Store) persistencetest.Store { return joining{s} }},
	{"Increment is not atomic", "concurrent_increments_add_up", func(s *persistence.Store) persistencetest.Store { return racing{s} }},
	{"swapping renews", "swapping_keeps_the_lifetime", func(s *persistence.Store) persistencetest.Store { return renewing{s} }},
	{"Claim overwrites", "claiming", func(s *persistence.Store) persistencetest.Store { return seizing{s} }},
	{"Claim renews", "claiming", func(s *persistence.Store) persistencetest.Store { return prolonging{s} }},
	{"Claim is not atomic", "concurrent_claims_have_one_winner", func(s *persistence.Store) persistencetest.Store { return hesitating{s} }},
	{"CountByValue remembers", "counting_by_value", func(s *persistence.Store) persistencetest.Store { return remembering{s, map[string]int{}} }},
	{"Scan forgets what moves", "scanning", func(s *persistence.Store) persistencetest.Store { return skipping{s} }},
	{"Scan shows other values", "scanning", func(s *persistence.Store) persistencetest.Store { return prefixing{s} }},
	{"Peek renews", "peeking", func(s *persistence.Store) persistencetest.Store { return staring{s} }},
	{"CompareAndRemove does not compare", "removing_by_value", func(s *persistence.Store) persistencetest.Store { return sweeping{s} }},
	{"Tables has only those with entries", "tables_have_names", func(s *persistence.Store) persistencetest.Store { return nameless{s} }},
	{"large values are cut", "large_keys_and_values", func(s *persistence.Store) persistencetest.Store { return cutting{s} }},
}

type overwriting struct{ *persistence.Store }

func (s overwriting) Insert(ctx context.Context, table, key, value string, lifetime time.Duration) (bool, error) {
	return s.Put(ctx, table, key, value, lifetime)
}

type extending struct{ *persistence.Store }

func (s extending) Lookup(ctx context.Context, table, key string, extend time.Duration) (string, time.Duration, bool, error) {
	if extend == 0 {
		extend = persistence.DefaultLifetime
	}
	return s.Store.Lookup(ctx, table, key, extend)
}

type joining struct{ *persistence.Store }

func (s joining) Insert(ctx context.Context, table, key, value string, lifetime time.Duration) (bool, error) {
	return s.Store.Insert(ctx, "", table+":"+key, value, lifetime)
}

func (s joining) Lookup(ctx context.Context, table, key string, extend time.Duration) (string, time.Duration, bool, error) {
	return s.Store.Lookup(ctx, "", table+":"+key, extend)
}

type racing struct{ *persistence.Store }

func (s racing) Increment(ctx context.Context, table, key string, delta int64, lifetime time.Duration) (int64, bool, error) {
	value, _, _, err := s.Lookup(ctx, table, key, 0)
	n, _ := strconv.ParseInt(value, 10, 64)
	<-time.After(time.Millisecond)
	s.Put(ctx, table, key, strconv.FormatInt(n+delta, 10), lifetime)
	return n + delta, true, err
}

type renewing struct{ *persistence.Store }

func (s renewing) CompareAndSwap(ctx context.Context, table, key, old, new string) (bool, error) {
	ok, err := s.Store.CompareAndSwap(ctx, table, key, old, new)
	if ok {
		s.Touch(ctx, table, key, time.Hour)
	}
	return ok, err
}

type seizing struct{ *persistence.Store }

func (s seizing) Claim(ctx context.Context, table, key, value, instead string, lifetime time.Duration) (string, time.Duration, error) {
	if instead != "" {
		s.Remove(ctx, table, key)
	}
	return s.Store.Claim(ctx, table, key, value, "", lifetime)
}

type prolonging struct{ *persistence.Store }

func (s prolonging) Claim(ctx context.Context, table, key, value, instead string, lifetime time.Duration) (string, time.Duration, error) {
	actual, _, err := s.Store.Claim(ctx, table, key, value, instead, lifetime)
	s.Touch(ctx, table, key, lifetime)
	_, left, _, _ := s.Store.Lookup(ctx, table, key, 0)
	return actual, left, err
}

type hesitating struct{ *persistence.Store }

func (s hesitating) Claim(ctx context.Context, table, key, value, instead string, lifetime time.Duration) (string, time.Duration, error) {
	actual, left, ok, err := s.Lookup(ctx, table, key, 0)
	if ok && (instead == "" || actual != instead) {
		return actual, left, err
	}
	<-time.After(time.Millisecond)
	_, err = s.Put(ctx, table, key, value, lifetime)
	return value, lifetime, err
}

type remembering struct {
	*persistence.Store
	counts map[string]int
}

func (s remembering) CountByValue(ctx context.Context, table string) (map[string]int, error) {
	counts, err := s.Store.CountByValue(ctx, table)
	if table == "" {
		maps.Copy(s.counts, counts)
		counts = s.counts
	}
	return counts, err
}

type skipping struct{ *persistence.Store }

func (s skipping) Scan(ctx context.Context, table string, o persistence.ScanOptions) ([]persistence.Item, string, error) {
	items, next, err := s.Store.Scan(ctx, table, o)
	return items[:max(0, len(items)-1)], next, err
}

type prefixing struct{ *persistence.Store }

func (s prefixing) Scan(ctx context.Context, table string, o persistence.ScanOptions) ([]persistence.Item, string, error) {
	o.Value = ""
	return s.Store.Scan(ctx, table, o)
}

type staring struct{ *persistence.Store }

func (s staring) Peek(ctx context.Context, table, key string) (string, time.Duration, bool, error) {
	return s.Lookup(ctx, table, key, 0)
}

type sweeping struct{ *persistence.Store }

func (s sweeping) CompareAndRemove(ctx context.Context, table, key, _ string) (bool, error) {
	_, _, ok, _ := s.Peek(ctx, table, key)
	return ok, s.Remove(ctx, table, key)
}

type nameless struct{ *persistence.Store }

func (s nameless) Tables(ctx context.Context) ([]string, error) {
	names, err := s.Store.Tables(ctx)
	return names[1:], err
}

type cutting struct{ *persistence.Store }

func (s cutting) Put(ctx context.Context, table, key, value string, lifetime time.Duration) (bool, error) {
	return s.Store.Put(ctx, table, key[:min(len(key), 1<<10)], value[:min(len(value), 1<<10)], lifetime)
}

// faultVariable is the environment variable that names the fault to test.
const faultVariable = "PERSISTENCETEST_FAULT"

// TestFault is run by TestFaultsAreFound, in a process of its own, to fail.
func TestFault(t *testing.T) {
	for _, fault := range faults {
		if fault.name == os.Getenv(faultVariable) {
			persistencetest.Run(t, persistencetest.Options{Virtual: true}, func(*testing.T) persistencetest.Store {
				return fault.make(persistence.NewStore(persistence.Options{}))
			})
		}
	}
}

func TestFaultsAreFound(t *testing.T) {
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, fault := range faults {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			pattern := "^TestFault$/" + fault.test
			cmd := exec.Command(binary, "-test.run="+pattern, "-test.timeout=1m")
			cmd.Env = append(os.Environ(), faultVariable+"="+fault.name)
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), "--- FAIL: TestFault/") {
				t.Errorf("the suite passes: %v\n%s", err, out)
			}
		})
	}
}
