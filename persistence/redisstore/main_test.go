package redisstore

import (
	"flag"
	"runtime"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/limpetlb/limpet/internal/redistest"
	"github.com/limpetlb/limpet/internal/testleak"
)

// TestMain runs more tests at a time than there are processors, because the
// tests mostly wait for servers. The flag -parallel still applies.
func TestMain(m *testing.M) {
	flag.Set("test.parallel", strconv.Itoa(4*runtime.GOMAXPROCS(0)))
	flag.Parse()
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction(testleak.RedisClient))
}

// ampleTimeout is enough for an answer on a busy machine.
const ampleTimeout = time.Minute

// open returns a store that is connected to the server.
func open(t testing.TB, server *redistest.Server, c Config) *Store {
	t.Helper()
	if c.Addresses == nil {
		c.Addresses = []string{server.Addr}
	}
	if c.Timeout == 0 {
		c.Timeout = ampleTimeout
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if err := s.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// modelSeeds is how many random runs are compared with the twin: 200 with
// -long, fewer by default, because each operation is a call to the server.
func modelSeeds() int {
	switch {
	case *long:
		return 200
	case testing.Short():
		return 2
	}
	return 6
}

// some returns the cases of a test that are run: with -short every fourth,
// because each has a server of its own.
func some[T any](cases []T) []T {
	if !testing.Short() {
		return cases
	}
	var few []T
	for i := 0; i < len(cases); i += 4 {
		few = append(few, cases[i])
	}
	return few
}

var long = flag.Bool("long", false, "run the model at full length")
