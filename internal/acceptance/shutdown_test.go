package acceptance_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/redistest"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/ipgroup"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
	"github.com/limpetlb/limpet/persistence/redisstore"
	"github.com/limpetlb/limpet/policy"
)

// A pending exchange is one that waits for release, or for its connection to
// end.
type pending struct {
	name string
	protocol
	request string // for HTTP/1, as it stands
	server  func(release <-chan struct{}) http.Handler
	wrapped bool // the handler is no server
}

// held answers when it is released, and gives up when the client does.
func held(begin string) func(<-chan struct{}) http.Handler {
	return func(release <-chan struct{}) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if begin != "" {
				io.WriteString(w, begin)
				_ = http.NewResponseController(w).Flush()
			}
			select {
			case <-release:
				io.WriteString(w, "end")
			case <-r.Context().Done():
			}
		})
	}
}

func pendings(t *testing.T) []pending {
	const plain = "GET / HTTP/1.1\nHost: a\n\n"
	const upgrade = "GET / HTTP/1.1\nHost: a\nConnection: Upgrade\nUpgrade: x\n\n"
	talking := func(release <-chan struct{}) http.Handler {
		return upgrading(t, func(conn io.ReadWriter) {
			ended := make(chan struct{})
			go func() {
				_, _ = io.Copy(io.Discard, conn)
				close(ended)
			}()
			select {
			case <-release:
				io.WriteString(conn, "end")
			case <-ended:
			}
		})
	}
	reading := func(<-chan struct{}) http.Handler { // until the client ends, which it does not
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	}
	return []pending{
		{"waits for the response", http1, plain, held(""), false},
		{"waits for the response, TLS", http1TLS, plain, held(""), false},
		{"waits for the response, HTTP/2", http2TLS, "", held(""), false},
		{"stream", http1, plain, held("begin"), false},
		{"stream, HTTP/2", http2TLS, "", held("begin"), false},
		{"stream of a wrapped handler", http1, plain, held("begin"), true},
		{"upload", http1, "POST / HTTP/1.1\nHost: a\nContent-Length: 100\n\nbegin", reading, false},
		{"upgraded", http1, upgrade, talking, false},
		{"upgraded, TLS", http1TLS, upgrade, talking, false},
		{"hijacked by a wrapped handler", http1, upgrade, talking, true},
	}
}

// TestShutdown has one exchange under way of each kind. It ends by itself, or
// is cut off at the deadline; then nothing is left of it.
func TestShutdown(t *testing.T) {
	t.Parallel()
	for _, kind := range pendings(t) {
		for _, ends := range []bool{true, false} {
			name := kind.name + "/cut off"
			if ends {
				name = kind.name + "/ends"
			}
			if ends && kind.name == "upload" {
				continue
			}
			t.Run(name, func(t *testing.T) {
				deadline := 200 * time.Millisecond
				if ends {
					deadline = testwait.Limit
				}
				release, arrived := make(chan struct{}), make(chan struct{})
				h := kind.server(release)
				handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					close(arrived)
					h.ServeHTTP(w, r)
				})
				recs := newRecords()
				cfg := limpet.Config{OnComplete: recs.add}
				var pool *lbpool.Pool
				if !kind.wrapped {
					pool = poolFor(t, handler)
					cfg.Pools = []*lbpool.Pool{pool}
				}
				vs := newVirtualService(t, cfg)
				var own http.Handler = vs
				if kind.wrapped {
					own = vs.Wrap(handler)
				}
				site := startSite(t, kind.protocol, vs.Listener(listen(t, "")), own)
				client := make(chan string, 1)
				go func() { client <- converse(t, site, kind.request) }()
				testwait.Receive(t, arrived, "the exchange to begin")
				start := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), deadline)
				defer cancel()
				done := make(chan error, 1)
				go func() { done <- vs.Shutdown(ctx, site.http) }()
				if ends {
					close(release)
				}
				err := testwait.Receive(t, done, "the shutdown")
				took := time.Since(start)
				switch {
				case ends && err != nil:
					t.Errorf("error %v", err)
				case !ends && !errors.Is(err, context.DeadlineExceeded):
					t.Errorf("error %v, want that of the context", err)
				case !ends && (took < deadline || took > deadline+cutMargin):
					t.Errorf("took %v, with a deadline of %v", took, deadline)
				}
				t.Logf("took %v", took)
				recs.next(t)
				recs.none(t)
				if pool != nil && pool.Servers()[0].Open() != 0 {
					t.Errorf("%d leases", pool.Servers()[0].Open())
				}
				if got := testwait.Receive(t, client, "the client"); ends != strings.HasSuffix(got, "end") {
					t.Errorf("the client has got %q", got)
				}
			})
		}
	}
}

// cutMargin is more than a cut takes, even on a busy machine: on an idle one it
// takes less than 100 ms, and the grace for handlers that do not end.
const cutMargin = testwait.Limit / 2

// converse sends a request and returns all that comes back.
func converse(t *testing.T, s *site, request string) string {
	if s.major() == 2 {
		_, body, _ := try(s.client(t), newRequest(t, "GET", s.URL, nil))
		return body
	}
	conn := s.dial(t, "")
	if s.tls != nil {
		conn = s.secure(t, conn)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, strings.ReplaceAll(request, "\n", "\r\n")); err != nil {
		t.Error(err)
	}
	var got strings.Builder
	for r := bufio.NewReader(conn); ; {
		b, err := r.ReadByte()
		if err != nil {
			return got.String()
		}
		got.WriteByte(b)
		if strings.HasSuffix(got.String(), "end") {
			return got.String()
		}
	}
}

// A tunnel ends with one of its sides, or is cut off on both.
func TestShutdownTunnel(t *testing.T) {
	for _, ends := range []bool{true, false} {
		t.Run(fmt.Sprint("ends ", ends), func(t *testing.T) {
			recs := newRecords()
			pool := poolOf(t, lineServer(t, http.NotFoundHandler()))
			vs, site := serve(t, http1, limpet.Config{
				Pools: []*lbpool.Pool{pool}, Scripts: []limpet.Script{compile(t, "disables", disables)}, OnComplete: recs.add,
			})
			conn := site.dial(t, "")
			r := send(t, conn, "GET / HTTP/1.1\nHost: a\nX-Disable: 1\n\nline\n")
			for line := ""; line != "echo line\r\n"; {
				var err error
				if line, err = r.ReadString('\n'); err != nil {
					t.Fatal(err)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			if ends {
				conn.Close()
				ctx = t.Context()
			}
			if err := vs.Shutdown(ctx, site.http); (err == nil) != ends {
				t.Error(err)
			}
			if rec := recs.next(t); !rec.Hijacked || pool.Servers()[0].Open() != 0 {
				t.Errorf("%d leases, record %+v", pool.Servers()[0].Open(), rec)
			}
			if !ends {
				if rest, err := io.ReadAll(r); len(rest) > 0 || err != nil {
					t.Errorf("%q, %v", rest, err)
				}
			}
		})
	}
}

// A handler that does not honour the end of its connection does not delay the
// shutdown for ever.
func TestShutdownDeaf(t *testing.T) {
	t.Parallel()
	vs := newVirtualService(t, limpet.Config{})
	release, arrived := make(chan struct{}), make(chan struct{})
	site := startSite(t, http1, listen(t, ""), vs.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(arrived)
		<-release
	})))
	go converse(t, site, "GET / HTTP/1.1\nHost: a\n\n")
	testwait.Receive(t, arrived, "the request")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := vs.Shutdown(ctx, site.http); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "1 requests cut off") {
		t.Error(err)
	}
	close(release)
	if err := vs.Shutdown(t.Context(), site.http); err != nil { // once more, when all has ended
		t.Error(err)
	}
}

// TestShutdownOfAll stops a program with everything that can run, in the order
// that the documentation names, while clients are busy.
func TestShutdownOfAll(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	list, words := filepath.Join(dir, "list"), filepath.Join(dir, "words")
	for _, file := range []string{list, words} {
		if err := os.WriteFile(file, []byte("127.0.0.66\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	groups := newGroups(t, "other", "192.0.2.1")
	groupFiles, err := ipgroup.NewWatcher(groups, []ipgroup.File{{Group: "Blacklist", Path: list}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	redis, err := redisstore.New(redisstore.Config{Addresses: []string{redistest.Start(t).Addr}, Prefix: "shutdown", Timeout: testwait.Limit})
	if err != nil {
		t.Fatal(err)
	}
	clients := persistence.NewStore(persistence.Options{})
	profile, err := persistence.NewClientIP(persistence.ClientIPConfig{Sessions: clients, Table: "clients"})
	if err != nil {
		t.Fatal(err)
	}
	saved := filepath.Join(dir, "saved")
	saver := &persistence.Saver{Store: clients, Path: saved}

	hanging := make(chan struct{}, 1000)
	pool := newPool(t, lbpool.Config{
		Name: "my_pool", Servers: startServers(t, 3),
		HealthMonitors: []lbpool.HealthMonitor{
			{Name: "up", Interval: time.Second, Checker: &lbpool.TCPChecker{}},
			{Name: "hangs", Interval: 2 * time.Minute, Timeout: time.Minute, Checker: lbpool.CheckerFunc(func(ctx context.Context, _ netip.AddrPort) error {
				hanging <- struct{}{}
				<-ctx.Done()
				return ctx.Err()
			})},
		},
		MinMonitorsUp: 1,
	})
	recs := newRecords()
	vs := newVirtualService(t, limpet.Config{
		Pools: []*lbpool.Pool{pool}, IPGroups: groups, Tables: redis, Persistence: profile, OnComplete: recs.add,
		Scripting: limpet.Scripting{Limits: datascript.Limits{Time: testwait.Limit}}, // the machine may be busy
		Policies: limpet.Policies{HTTPSecurity: []policy.SecurityRule{{
			Name: "blacklist", Action: policy.Close{}, Match: policy.Match{ClientIP: &policy.IPMatch{Groups: []string{"Blacklist"}}},
		}}},
		Scripts: []limpet.Script{onRequest(t, "busy", `avi.vs.table_insert(avi.http.get_header("X-Client"), "x", 60) for i = 1, 1000 do end`)},
	})
	ctx, cancel := context.WithCancel(t.Context())
	var background sync.WaitGroup
	for _, run := range []func(context.Context) error{vs.Run, groupFiles.Run, saver.Run} {
		background.Go(func() {
			if err := run(ctx); err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
	srv := limpet.NewServer(vs)
	srv.ErrorLog = serverLog(t)
	ln := listen(t, "")
	background.Go(func() {
		if err := srv.Serve(vs.Listener(ln)); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	testwait.Receive(t, hanging, "a health check that hangs")
	testwait.Until(t, "the servers to be up", func() bool { return pool.Stats().Up == 3 })

	var users sync.WaitGroup
	for i := range 8 {
		users.Go(func() {
			tr := new(http.Transport)
			defer tr.CloseIdleConnections()
			for n := 0; ; n++ {
				r, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+ln.Addr().String(), nil)
				if err != nil {
					t.Error(err)
					return
				}
				r.Header.Set("X-Client", fmt.Sprint(i, " ", n))
				res, _, err := try(&http.Client{Transport: tr, Timeout: testwait.Limit}, r)
				if err != nil {
					return // the server is gone
				}
				if res.StatusCode != 200 {
					t.Errorf("status %d", res.StatusCode)
				}
			}
		})
	}
	recs.take(t, 200)

	start := time.Now()
	deadline, end := context.WithTimeout(t.Context(), testwait.Limit)
	defer end()
	if err := vs.Shutdown(deadline, srv); err != nil {
		t.Error(err)
	}
	requests := vs.Stats().Requests
	cancel()
	background.Wait()
	redis.Close()
	took := time.Since(start)
	users.Wait()
	t.Logf("%d requests; all was over in %v", requests, took)
	recs.mu.Lock()
	for _, rec := range recs.list {
		if rec.Status != 200 || len(rec.Significant) > 0 {
			t.Errorf("record: %+v", rec)
		}
	}
	recs.mu.Unlock()
	if n := vs.Stats().Requests; n != requests {
		t.Errorf("%d requests after the shutdown", n-requests)
	}
	again := persistence.NewStore(persistence.Options{})
	if err := again.LoadFile(saved); err != nil || again.Stats().Entries != 1 {
		t.Errorf("the file has %d entries: %v", again.Stats().Entries, err)
	}
}
