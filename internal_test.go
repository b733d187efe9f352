package limpet

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet/lbpool"
)

// naming is a handler that names the service that counts.
type naming struct {
	http.Handler
	vs *VirtualService
}

func (n naming) VirtualService() *VirtualService { return n.vs }

// Calls of gRPC have no limit for the parts of their bodies if the service that
// answers has servers of HTTP/2, whatever handlers stand before it.
func TestCalls(t *testing.T) {
	service := func(protocol lbpool.Protocol) *VirtualService {
		pool, err := lbpool.New(lbpool.Config{Name: "web", Servers: []lbpool.ServerConfig{{Address: "127.0.0.1:1"}}, Protocol: protocol})
		if err != nil {
			t.Fatal(err)
		}
		vs, err := New(Config{Pools: []*lbpool.Pool{pool}})
		if err != nil {
			t.Fatal(err)
		}
		return vs
	}
	plain, h2c := service(lbpool.ProtocolHTTP1), service(lbpool.ProtocolH2C)
	mux := http.NewServeMux()
	mux.Handle("/", h2c)
	for name, tt := range map[string]struct {
		h    http.Handler
		want bool
	}{
		"service":                  {h2c, true},
		"service of HTTP/1":        {plain, false},
		"mux":                      {mux, true},
		"wrapped mux":              {plain.Wrap(mux), true},
		"wrapped by the service":   {h2c.Wrap(http.NotFoundHandler()), true},
		"handler that names it":    {naming{http.NotFoundHandler(), h2c}, true},
		"handler that names other": {naming{http.NotFoundHandler(), plain}, false},
		"foreign":                  {http.NotFoundHandler(), false},
	} {
		r := httptest.NewRequest(http.MethodPost, "/", nil)
		r.ProtoMajor = 2
		r.Header.Set("Content-Type", "application/grpc")
		if got := calls(tt.h, r); got != tt.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestThrottle(t *testing.T) {
	const rate = 10
	second := time.Unix(1_000_000, 0)
	var th throttle
	for i, step := range []struct {
		at         time.Duration
		n, want    int
		suppressed int64 // as told by those that pass
	}{
		{0, 3, 3, 0},
		{900 * time.Millisecond, 1000, rate - 3, 0},
		{time.Second, 1000, rate, 993},
		{10 * time.Second, 1, 1, 990},
		{10 * time.Second, 1000, rate - 1, 0},
	} {
		var passed int
		var suppressed int64
		for range step.n {
			n, ok := th.pass(second.Add(step.at), rate)
			if suppressed += n; ok {
				passed++
			}
		}
		if passed != step.want || suppressed != step.suppressed {
			t.Errorf("step %d: %d passed and told of %d, want %d and %d", i, passed, suppressed, step.want, step.suppressed)
		}
	}
	for rate, want := range map[int]bool{0: true, -1: false} {
		if _, ok := th.pass(second, rate); ok != want {
			t.Errorf("rate %d: passes: %v, want %v", rate, ok, want)
		}
	}
}

// Many requests end around the turn of a second, and are not in order. Each
// that came from the other second than the one before began the count anew, so
// that a flood had as many lines as it liked.
func TestThrottleOutOfOrder(t *testing.T) {
	const rate = 10
	second := time.Unix(1_000_000, 0)
	for name, step := range map[string]time.Duration{"late": -1, "clock is set back": -time.Hour} {
		var th throttle
		passed := 0
		for i := range 1000 {
			at := time.Second
			if i%2 > 0 && step == -1 || i >= 500 && step != -1 {
				at += step
			}
			if _, ok := th.pass(second.Add(at), rate); ok {
				passed++
			}
		}
		want := rate
		if step != -1 {
			want = 2 * rate // a second that comes again
		}
		if passed != want {
			t.Errorf("%s: %d passed, want %d", name, passed, want)
		}
	}
	var th throttle
	var passed atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 1000 {
				if _, ok := th.pass(second.Add(time.Duration(i)*time.Millisecond), rate); ok {
					passed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := passed.Load(); n != rate {
		t.Errorf("of eight at a time, %d passed within a second, want %d", n, rate)
	}
}

// Who denies connections has a line of his own, whatever the others do.
func TestDenials(t *testing.T) {
	var d denials
	second := time.Unix(1_000_000, 0)
	for i, step := range []struct {
		denier     string
		at         time.Duration
		n, want    int
		suppressed int64
	}{
		{"a", 0, 1000, 1, 0},
		{"b", 0, 3, 1, 0},
		{"a", 900 * time.Millisecond, 1000, 0, 0},
		{"a", time.Second, 10, 1, 1999},
		{"b", 10 * time.Second, 1, 1, 2},
		{"a", 10 * time.Second, 1, 1, 9},
	} {
		var passed int
		var suppressed int64
		for range step.n {
			n, ok := d.of(step.denier).pass(second.Add(step.at), deniedRate(0))
			if suppressed += n; ok {
				passed++
			}
		}
		if passed != step.want || suppressed != step.suppressed {
			t.Errorf("step %d: %d passed and told of %d, want %d and %d", i, passed, suppressed, step.want, step.suppressed)
		}
	}
	if deniedRate(1000) != 1 || deniedRate(-1) != -1 {
		t.Error("the rate of denials")
	}
}

func TestSettleConnection(t *testing.T) {
	for _, test := range []struct {
		name       string
		connection []string
		want       http.Header
	}{
		{"none", nil, http.Header{"A": {"1"}, "B": {"2"}, "Upgrade": {"x"}}},
		{"close", []string{"close"}, http.Header{"A": {"1"}, "B": {"2"}, "Upgrade": {"x"}}},
		{"one", []string{"a"}, http.Header{"B": {"2"}, "Upgrade": {"x"}}},
		{"several", []string{"close, a ,, b", "c"}, http.Header{"Upgrade": {"x"}}},
		{"upgrade", []string{"keep-alive, UPGRADE, b"}, http.Header{"A": {"1"}, "Upgrade": {"x"}, "Connection": {"Upgrade"}}},
		{"itself", []string{"connection, upgrade"}, http.Header{"A": {"1"}, "B": {"2"}, "Upgrade": {"x"}, "Connection": {"Upgrade"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := http.Header{"A": {"1"}, "B": {"2"}, "Upgrade": {"x"}}
			if test.connection != nil {
				h["Connection"] = test.connection
			}
			settleConnection(h)
			if diff := cmp.Diff(test.want, h); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The zero values of the configuration mean what their documentation says.
func TestAcceptRules(t *testing.T) {
	for _, test := range []struct {
		name          string
		cfg           Config
		write, header time.Duration
	}{
		{"defaults", Config{}, 60 * time.Second, 5 * time.Second},
		{"for ever", Config{Clients: Clients{Connections: ConnectionLimits{WriteTimeout: -1}}}, 0, 5 * time.Second},
		{"as set", Config{Clients: Clients{
			Connections: ConnectionLimits{WriteTimeout: time.Second}, ProxyProtocol: ProxyProtocol{HeaderTimeout: time.Minute},
		}}, time.Second, time.Minute},
	} {
		t.Run(test.name, func(t *testing.T) {
			vs, err := New(test.cfg)
			if err != nil {
				t.Fatal(err)
			}
			r := vs.current.Load().accept
			if r.WriteTimeout != test.write || r.HeaderTimeout != test.header {
				t.Errorf("write timeout %v, header timeout %v", r.WriteTimeout, r.HeaderTimeout)
			}
			if r.Judge != nil || r.FromProxy != nil || r.Allow != nil || r.AllowClient != nil {
				t.Error("something is asked about each connection, though nothing is configured")
			}
		})
	}
}

// A transaction is used again if nobody uses it when it ends, and nobody has
// its handle. The last user releases what scripts hold, once.
func TestUsers(t *testing.T) {
	for _, test := range []struct {
		name                            string
		kept, used, unused, free, lasts bool
	}{
		{"alone", false, false, true, true, false},
		{"kept", true, false, true, false, false},
		{"used", false, true, false, false, true},
		{"kept and used", true, true, false, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			var u users
			if test.kept && !u.keep() || !u.enter() || u.leave() || test.used && !u.enter() {
				t.Error("a transaction that is under way cannot be used, or has a last user")
			}
			if unused, free := u.end(); unused != test.unused || free != test.free {
				t.Errorf("unused: %v, free: %v", unused, free)
			}
			if u.enter() || u.keep() {
				t.Error("a transaction that is over can be used")
			}
			if test.used && u.leave() != test.lasts {
				t.Error("nobody is the last user")
			}
		})
	}
}

// The timer of a write may fire when the write has just ended and another has
// begun. It reset the stream then. And nothing may touch the stream when the
// handler has returned.
func TestStreamTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = time.Hour
		var ended atomic.Int32
		timer := &streamTimer{limit: limit, setDeadline: func(past time.Time) error {
			if !past.Before(time.Now()) {
				t.Errorf("the deadline %v has not passed", past)
			}
			ended.Add(1)
			return nil
		}}
		for range 3 { // none lasts too long
			timer.begin()
			time.Sleep(limit - 1)
			timer.end()
		}
		time.Sleep(10 * limit) // nobody waits
		timer.begin()
		time.Sleep(limit - 1)
		synctest.Wait()
		if ended.Load() != 0 {
			t.Fatal("the stream was ended too early")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if ended.Load() != 1 {
			t.Errorf("the stream was ended %d times, want once", ended.Load())
		}
		timer.leave()

		late := &streamTimer{limit: limit, setDeadline: timer.setDeadline}
		late.begin()
		late.leave()
		late.begin()  // by a goroutine that the handler has left behind
		late.expire() // the timer had fired before
		time.Sleep(10 * limit)
		late.end()
		unused := &streamTimer{limit: limit, setDeadline: timer.setDeadline}
		unused.end()
		unused.leave()
		if ended.Load() != 1 {
			t.Errorf("the stream was ended %d times, want once", ended.Load())
		}
	})
}
