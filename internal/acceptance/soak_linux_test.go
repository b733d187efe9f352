package acceptance_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/testleak"
	"github.com/limpetlb/limpet/internal/testrace"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/internal/websockettest"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
)

var soakFor = flag.Duration("soak", 0, "how long TestSoak takes; 0 means 10 seconds, 5 under the race detector")

// A soak is mixed traffic through one virtual service, in which faults are
// injected all the time.
type soak struct {
	t       *testing.T
	vs      *limpet.VirtualService
	store   *persistence.Store
	servers []*restartable
	addr    string

	done, served, refused, left atomic.Int64 // exchanges, by what became of them
	wrong                       atomic.Int64
	strange                     atomic.Int64
}

// TestSoak lets clients of all kinds work for a while. Servers die and come
// back, tables are cleared, configurations are replaced, some of which are
// refused, scripts fail, and clients leave. Memory, goroutines and descriptors
// must stay where they are, no answer may be another's, and nothing may be
// logged that is not the doing of a fault. A run of seconds is too short to see
// where they stay, above all on a busy machine: there all must be given back.
func TestSoak(t *testing.T) {
	length := *soakFor
	switch {
	case length > 0:
	case testrace.Enabled:
		length = 5 * time.Second
	case testing.Short():
		length = time.Second
	default:
		length = 10 * time.Second
	}
	before := takeSamples(1, 0)[0]
	s := &soak{t: t, store: persistence.NewStore(persistence.Options{MaxEntries: 10_000})}
	var pc lbpool.Config
	for i := range 3 {
		m := newRestartable(t, fmt.Sprintf("127.0.1.%d:0", i+1))
		defer m.kill()
		s.servers = append(s.servers, m)
		pc.Servers = append(pc.Servers, lbpool.ServerConfig{Address: m.addr})
	}
	pc.Name, pc.Logger = "my_pool", slog.New(s.watch(slog.LevelDebug))
	pc.HealthMonitors = []lbpool.HealthMonitor{{Interval: time.Second, Timeout: 900 * time.Millisecond, Checker: &lbpool.TCPChecker{}}}
	pool := newPool(t, pc)
	s.vs = newVirtualService(t, s.config(pool, 0))

	stopRun := running(t, s.vs)
	srv := limpet.NewServer(s.vs)
	srv.ErrorLog = log.New(unexpected{s}, "", 0)
	ln := s.vs.Listener(listen(t, ""))
	s.addr = ln.Addr().String()
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	testwait.Until(t, "the servers to be up", func() bool { return pool.Stats().Up == 3 })

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var clients sync.WaitGroup
	for i := range 2 {
		for _, kind := range []func(context.Context, *http.Client, int){s.get, s.post, s.leave, s.failScript, s.upgrade, s.sendMalformed} {
			clients.Go(func() {
				tr := &http.Transport{DisableCompression: true}
				defer tr.CloseIdleConnections()
				c := &http.Client{Transport: tr, Timeout: testwait.Limit}
				for n := i; ctx.Err() == nil; n += 2 {
					kind(ctx, c, n)
					s.done.Add(1)
				}
			})
		}
	}
	clients.Go(func() { s.injectFaults(ctx, pool) })
	samples := takeSamples(40, length)
	stop()
	clients.Wait()

	deadline, cancel := context.WithTimeout(t.Context(), testwait.Limit)
	defer cancel()
	if err := s.vs.Shutdown(deadline, srv); err != nil {
		t.Errorf("shutdown: %v", err)
	}
	stopRun()
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
	done, refused := s.done.Load(), s.refused.Load()
	t.Logf("%d exchanges in %v: %d served, %d without a server, %d left by their clients; %d lines of the log not expected",
		done, length, s.served.Load(), refused, s.left.Load(), s.strange.Load())
	if s.wrong.Load() > 0 || s.strange.Load() > 0 || refused > done/4 || s.served.Load() < 100 {
		t.Errorf("%d wrong answers, %d strange lines, %d refused", s.wrong.Load(), s.strange.Load(), refused)
	}
	for _, server := range pool.Servers() {
		if server.Open() != 0 {
			t.Errorf("%d leases", server.Open())
		}
	}
	if *soakFor > 0 {
		samples.check(t, length)
		return
	}
	for _, m := range s.servers {
		m.kill()
	}
	var after sample
	defer func() { t.Logf("%+v before, %+v after", before, after) }()
	testwait.Until(t, "all to be given back", func() bool {
		after = takeSamples(1, 0)[0]
		return after.memory < before.memory+8<<20 && after.goroutines < before.goroutines+10 && after.descriptors < before.descriptors+10
	})
}

func (s *soak) config(pool *lbpool.Pool, i int) limpet.Config {
	script := customPersistence
	cfg := limpet.Config{
		Pools: []*lbpool.Pool{pool}, Tables: s.store, OnComplete: s.look, Scripting: limpet.Scripting{Limits: datascript.Limits{Time: testwait.Limit}},
		Logger: slog.New(s.watch(slog.LevelError)),
		Scripts: []limpet.Script{
			compile(s.t, "Custom Persistence", script),
			onRequest(s.t, fmt.Sprint("fails ", i), `avi.vs.analytics.counter("requests") if avi.http.get_path() == "/fail" then error("on purpose") end`),
		},
	}
	if i%5 == 4 {
		cfg.DefaultPool = "nowhere" // a fault
	}
	return cfg
}

// injectFaults does something else each time.
func (s *soak) injectFaults(ctx context.Context, pool *lbpool.Pool) {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		switch victim := s.servers[n/4%len(s.servers)]; n % 4 {
		case 0:
			victim.kill()
		case 1:
			if err := s.vs.Update(s.config(pool, n)); (err != nil) != (n%5 == 4) {
				s.t.Errorf("update %d: %v", n, err)
			}
		case 2:
			for key := range s.store.All("") {
				_ = s.store.Remove(ctx, "", key)
			}
		default:
			victim.start()
		}
	}
}

// look checks a record: only what is injected may go wrong.
func (s *soak) look(rec limpet.Record) {
	for _, e := range rec.ScriptErrors {
		if !strings.HasSuffix(e.Message, "on purpose") || rec.Path != "/fail" {
			s.report("script error", e.Error())
		}
	}
	for _, reason := range rec.Significant {
		switch reason {
		case limpet.NoServer, limpet.ServerFailed, limpet.ServerReselect, limpet.ServerChange, limpet.ClientGone, limpet.Status5xx:
		case limpet.ScriptFailed:
			if rec.Path != "/fail" {
				s.report("record", fmt.Sprintf("%+v", rec))
			}
		default:
			s.report("record", fmt.Sprintf("%+v", rec))
		}
	}
}

func (s *soak) report(what, text string) {
	if s.strange.Add(1) <= 10 {
		s.t.Errorf("%s: %s", what, text)
	}
}

// watch returns a log that takes what a fault may have done, and no more.
func (s *soak) watch(level slog.Level) slog.Handler {
	return slog.NewTextHandler(unexpected{s}, &slog.HandlerOptions{Level: level})
}

type unexpected struct{ *soak }

func (u unexpected) Write(p []byte) (int, error) {
	// Those of the pool are about servers that come and go, those of requests
	// about the script that fails.
	if !bytes.Contains(p, []byte("pool=my_pool")) && !bytes.Contains(p, []byte("on purpose")) {
		u.report("log", string(p))
	}
	return len(p), nil
}

// exchange sends a request and counts what becomes of it. want is the body.
func (s *soak) exchange(ctx context.Context, c *http.Client, method, path, body, want string) {
	r, err := http.NewRequestWithContext(ctx, method, "http://"+s.addr+path, strings.NewReader(body))
	if err != nil {
		s.t.Error(err)
		return
	}
	res, got, err := try(c, r)
	switch {
	case err != nil:
		s.left.Add(1) // the server died in the middle, or time is up
	case path == "/fail" && res.StatusCode == http.StatusInternalServerError:
		s.served.Add(1)
	case res.StatusCode >= 502:
		s.refused.Add(1)
	case res.StatusCode != http.StatusOK || got != want:
		s.wrong.Add(1)
		s.t.Errorf("%s %s: %s %.100q, want %.100q", method, path, res.Status, got, want)
	default:
		s.served.Add(1)
	}
}

func (s *soak) get(ctx context.Context, c *http.Client, n int) {
	s.exchange(ctx, c, "GET", fmt.Sprint("/", n), "", fmt.Sprintf("GET /%d ", n))
}

func (s *soak) failScript(ctx context.Context, c *http.Client, _ int) {
	s.exchange(ctx, c, "GET", "/fail", "", "")
}

func (s *soak) post(ctx context.Context, c *http.Client, n int) {
	body := strings.Repeat(fmt.Sprint(n, ","), n%20_000)
	s.exchange(ctx, c, "POST", fmt.Sprint("/", n), body, fmt.Sprintf("POST /%d %s", n, body))
}

// leave begins to read a stream, and goes away.
func (s *soak) leave(ctx context.Context, c *http.Client, n int) {
	r, err := http.NewRequestWithContext(ctx, "GET", "http://"+s.addr+"/stream", nil)
	if err != nil {
		s.t.Error(err)
		return
	}
	s.left.Add(1)
	res, err := c.Do(r)
	if err != nil {
		return
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, int64(n%2_000))
}

// upgrade echoes a few messages over a WebSocket.
func (s *soak) upgrade(ctx context.Context, c *http.Client, n int) {
	ws, _, err := websockettest.Dial(ctx, c, "http://"+s.addr+"/echo")
	if err != nil {
		s.refused.Add(1)
		return
	}
	defer ws.Close()
	for i := range 5 {
		message := fmt.Sprint(n, " ", i)
		if ws.Send(websockettest.Text(message)) != nil {
			s.left.Add(1)
			return
		}
		got, err := ws.Receive()
		if err != nil {
			s.left.Add(1)
			return
		}
		if string(got.Data) != message {
			s.wrong.Add(1)
			s.t.Errorf("WebSocket: %q, want %q", got.Data, message)
		}
	}
	s.served.Add(1)
}

// sendMalformed speaks no HTTP, or stops in the middle of it.
func (s *soak) sendMalformed(_ context.Context, _ *http.Client, n int) {
	conn, err := net.DialTimeout("tcp", s.addr, testwait.Limit)
	if err != nil {
		s.t.Error(err)
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(testwait.Limit))
	s.left.Add(1)
	_, _ = io.WriteString(conn, []string{"\x16\x03\x01", "GET / HTTP/1.1\r\nHo", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nx", "nonsense\r\n\r\n"}[n%4])
	if n%4 == 3 {
		_, _ = bufio.NewReader(conn).ReadString('\n')
	}
}

// A restartable is a server that can be killed and started again.
type restartable struct {
	t    *testing.T
	addr string
	srv  *http.Server
	done chan struct{}
}

func newRestartable(t *testing.T, addr string) *restartable {
	m := &restartable{t: t, addr: deadAddr(t, addr)}
	m.start()
	return m
}

func (m *restartable) start() {
	if m.srv != nil {
		return
	}
	ln, err := net.Listen("tcp", m.addr)
	if err != nil {
		m.t.Error(err)
		return
	}
	m.srv, m.done = &http.Server{Handler: http.HandlerFunc(m.serve)}, make(chan struct{})
	go func(srv *http.Server, done chan struct{}) {
		defer close(done)
		_ = srv.Serve(ln)
	}(m.srv, m.done)
}

func (m *restartable) kill() {
	if m.srv != nil {
		m.srv.Close()
		<-m.done
		m.srv = nil
	}
}

func (m *restartable) serve(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/stream":
		for r.Context().Err() == nil {
			if _, err := io.WriteString(w, strings.Repeat("x", 1000)); err != nil || http.NewResponseController(w).Flush() != nil {
				return
			}
		}
	case "/echo":
		_ = websockettest.Accept(w, r, func(ws *websockettest.Conn) { _ = ws.Echo() }) // the client may leave
	default:
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		fmt.Fprintf(w, "%s %s %s", r.Method, r.URL.Path, body)
	}
}

// A sample is what the process takes at a time.
type sample struct{ memory, goroutines, descriptors float64 }

type soakSamples []sample

// takeSamples looks at the process n times in a length of time; a machine that
// is too busy for that takes longer.
func takeSamples(n int, length time.Duration) (list soakSamples) {
	tick := time.NewTicker(max(length/time.Duration(n), time.Millisecond))
	defer tick.Stop()
	for range n {
		<-tick.C
		files, _ := testleak.Descriptors()
		list = append(list, sample{memoryHeld(), float64(runtime.NumGoroutine()), float64(files)})
	}
	return list
}

// memoryHeld is what a long run keeps resident. In a short one the resident set
// shows what the tests before it have left, and the race detector's shadow:
// there it is the heap and the stacks in use.
func memoryHeld() float64 {
	debug.FreeOSMemory() // or it shows when the collector ran, and not what is held
	if *soakFor == 0 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc + m.StackInuse)
	}
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(data))
	pages, _ := strconv.ParseFloat(fields[1], 64)
	return pages * float64(os.Getpagesize())
}

// check compares the second quarter with the last one: the first is for caches
// and pools to fill.
func (l soakSamples) check(t *testing.T, length time.Duration) {
	t.Helper()
	quarter := len(l) / 4
	early, late := l[quarter:2*quarter], l[len(l)-quarter:]
	for _, c := range []struct {
		name   string
		of     func(sample) float64
		growth float64 // share that is allowed
		more   float64 // and beside it
	}{
		// 1 % an hour, and what a short run cannot tell from noise.
		{"memory", func(s sample) float64 { return s.memory }, 0.01*max(length.Hours(), 1) + 0.04, 8 << 20},
		{"goroutines", func(s sample) float64 { return s.goroutines }, 0.1, 40},
		{"descriptors", func(s sample) float64 { return s.descriptors }, 0.1, 40},
	} {
		median := func(list soakSamples) float64 {
			values := make([]float64, len(list))
			for i, s := range list {
				values[i] = c.of(s)
			}
			slices.Sort(values)
			return values[len(values)/2]
		}
		before, after := median(early), median(late)
		t.Logf("%s: %.0f in the second quarter, %.0f in the last", c.name, before, after)
		if after > before*(1+c.growth)+c.more {
			t.Errorf("%s: %.0f in the second quarter, %.0f in the last", c.name, before, after)
		}
	}
}
