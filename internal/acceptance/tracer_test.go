package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/internal/websockettest"
	"github.com/limpetlb/limpet/lbpool"
)

const (
	someTrace  = "0af7651916cd43dd8448eb211c80319c"
	someParent = "00-" + someTrace + "-b7ad6b7169203331-01"
)

// A notebook is a tracer that notes what it is told. It follows requests
// without the header Untraced.
type notebook struct {
	id       string
	finished chan []string // the notes of a request
}

func newNotebook() *notebook { return &notebook{id: someTrace, finished: make(chan []string, 1000)} }

type noteKey struct{}

func (n *notebook) Request(ctx context.Context, r *http.Request, trusted bool) (context.Context, limpet.Trace) {
	if r.Header.Get("Untraced") != "" {
		return nil, nil
	}
	note := &note{book: n}
	note.write("request %s trusted=%t", r.URL.Path, trusted)
	return context.WithValue(ctx, noteKey{}, note), note
}

// A note is the trace of one request. Its methods must not be called at the
// same time, and not at all after Finish.
type note struct {
	book  *notebook
	lines []string
	ended bool
}

func (n *note) write(format string, args ...any) {
	if n.ended {
		panic("the trace has ended: " + fmt.Sprintf(format, args...))
	}
	n.lines = append(n.lines, fmt.Sprintf(format, args...))
}

func (n *note) ID() string { return n.book.id }

func (n *note) Begin(step, name string) func(error) {
	n.write("begin %s %s", step, name)
	return func(err error) { n.write("end %s %s %t", step, name, err == nil) }
}

func (n *note) Send(r *http.Request, server netip.AddrPort, attempt int) func(int, error) {
	r.Header.Set("Attempt", fmt.Sprint(attempt))
	n.write("send %d %s %t", attempt, r.URL.Path, server.IsValid())
	return func(status int, err error) { n.write("sent %d %t", status, err == nil) }
}

func (n *note) Finish(r *limpet.Record) {
	n.write("finish %d pool=%q server=%t tried=%d", r.Status, r.Pool, r.Server.IsValid(), r.Tried)
	n.ended = true
	n.book.finished <- n.lines
}

func (n *notebook) next(t *testing.T) []string {
	t.Helper()
	return testwait.Receive(t, n.finished, "the end of a trace")
}

// A tracer learns of all steps and attempts of a request, in their order. What
// it sets for an attempt arrives, also at a second server and after the edits
// of scripts.
func TestTracer(t *testing.T) {
	book := newNotebook()
	var attempts sync.Map
	server := func(status int) string {
		return startServer(t, "127.0.1.1:0", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			attempts.Store(r.Header.Get("Attempt"), r.Header.Get("Edited"))
			w.WriteHeader(status)
		}))
	}
	pool := newPool(t, lbpool.Config{
		Name: "web", Algorithm: lbpool.RoundRobin(),
		Servers:  []lbpool.ServerConfig{{Address: deadAddr(t, "127.0.1.2:0")}, {Address: server(503)}, {Address: server(200)}},
		Reselect: lbpool.Reselect{Codes: []lbpool.StatusRange{{Begin: 503, End: 503}}},
	})
	recs := newRecords()
	vs, site := serve(t, http1, limpet.Config{
		Pools: []*lbpool.Pool{pool}, Tracer: book, OnComplete: recs.add,
		Scripts: []limpet.Script{
			compile(t, "first", "-- HTTP_REQ\nlocal x = 1\n-- LB_DONE\navi.http.add_header('Edited', 'yes')"),
			failOpen(compile(t, "second", "-- HTTP_REQ\nerror('x')\n-- HTTP_RESP\nlocal y = 1")),
		},
	})
	fetch(t, site.client(t), newRequest(t, "GET", site.URL+"/a", nil))
	want := []string{
		"request /a trusted=false",
		"begin script first HTTP_REQ", "end script first HTTP_REQ true",
		"begin script second HTTP_REQ", "end script second HTTP_REQ false",
		"begin script first LB_DONE", "end script first LB_DONE true",
		"send 1 /a true", "sent 0 false", "send 2 /a true", "sent 503 true", "send 3 /a true", "sent 200 true",
		"begin script second HTTP_RESP", "end script second HTTP_RESP true",
		`finish 200 pool="web" server=true tried=3`,
	}
	if diff := cmp.Diff(want, book.next(t)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, attempt := range []string{"2", "3"} {
		if edited, ok := attempts.Load(attempt); edited != "yes" {
			t.Errorf("attempt %s: %t, %v", attempt, ok, edited)
		}
	}
	if id := recs.next(t).TraceID; id != someTrace {
		t.Errorf("record of trace %q", id)
	}
	st := vs.Stats()
	for name, h := range map[string]limpet.Histogram{"duration": st.Duration, "response": st.Pools[0].Response} {
		if len(h.Exemplars) == 0 || h.Exemplars[0].TraceID != someTrace || h.Exemplars[0].Value <= 0 || h.Exemplars[0].At.IsZero() {
			t.Errorf("%s: exemplars %v", name, h.Exemplars)
		}
	}
}

// Traces end once, however requests end.
func TestTracerEnds(t *testing.T) {
	book := newNotebook()
	pool := poolFor(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/cut":
			w.Header().Set("Content-Length", "10")
			_, _ = io.WriteString(w, "1")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		case "/hang":
			<-r.Context().Done()
		case "/ws":
			if err := websockettest.Accept(w, r, func(c *websockettest.Conn) { _ = c.Echo() }); err != nil {
				t.Error(err)
			}
		}
	})
	_, site := serve(t, http1, limpet.Config{Pools: []*lbpool.Pool{pool}, Tracer: book, Scripts: []limpet.Script{
		onRequest(t, "answers", `if avi.http.get_path() == "/answered" then avi.http.response(403) end`),
	}})
	c := site.client(t)
	script := []string{"begin script answers HTTP_REQ", "end script answers HTTP_REQ true"}
	check := func(path string, after ...string) {
		t.Helper()
		if diff := cmp.Diff(slices.Concat([]string{"request " + path + " trusted=false"}, script, after), book.next(t)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
	ask := func(path string) { _, _, _ = try(c, newRequest(t, "GET", site.URL+path, nil)) }
	ask("/answered")
	check("/answered", `finish 403 pool="" server=false tried=0`)
	ask("/cut")
	check("/cut", "send 1 /cut true", "sent 200 true", `finish 200 pool="my_pool" server=true tried=1`)

	ctx, cancel := context.WithCancel(t.Context())
	gone := newRequest(t, "GET", site.URL+"/hang", nil).WithContext(ctx)
	left := make(chan error, 1)
	go func() {
		_, _, err := try(c, gone)
		left <- err
	}()
	testwait.Until(t, "the server to have the request", func() bool { return pool.Stats().Open == 1 })
	cancel()
	if err := testwait.Receive(t, left, "the client"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	check("/hang", "send 1 /hang true", "sent 0 false", `finish 499 pool="my_pool" server=true tried=1`)

	ws, _, err := websockettest.Dial(t.Context(), c, site.URL+"/ws")
	if err != nil {
		t.Fatal(err)
	}
	// The trace ends while the connection goes on.
	check("/ws", "send 1 /ws true", "sent 101 true", `finish 101 pool="my_pool" server=true tried=1`)
	if err := ws.Send(websockettest.Text("x")); err != nil {
		t.Error(err)
	}
	if _, err := ws.Receive(); err != nil {
		t.Error(err)
	}
	if err := ws.Close(); err != nil {
		t.Error(err)
	}
	r := newRequest(t, "GET", site.URL+"/untraced", nil)
	r.Header.Set("Untraced", "yes")
	fetch(t, c, r)
	if len(book.finished) > 0 {
		t.Errorf("%d more traces", len(book.finished))
	}
}

// A wrapped handler has the context of the trace, and the trace ends also if it
// panics.
func TestTracerWrap(t *testing.T) {
	book := newNotebook()
	vs := newVirtualService(t, limpet.Config{Tracer: book})
	h := vs.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Context().Value(noteKey{}) == nil {
			t.Error("the handler does not have the context of the trace")
		}
		panic("a handler")
	}))
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
	}()
	if got := book.next(t); got[len(got)-1] != `finish 0 pool="" server=false tried=0` {
		t.Errorf("%q", got)
	}
}

// The wait in a queue is a step.
func TestTracerQueue(t *testing.T) {
	book := newNotebook()
	g := newGate()
	pool := newPool(t, lbpool.Config{
		Name: "web", Queue: lbpool.Queue{Length: 1, Timeout: time.Minute},
		Servers: []lbpool.ServerConfig{{Address: startServer(t, "127.0.1.1:0", g), MaxConnections: 1}},
	})
	_, site := serve(t, http1, limpet.Config{Pools: []*lbpool.Pool{pool}, Tracer: book})
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() { fetch(t, site.client(t), newRequest(t, "GET", site.URL+"/"+fmt.Sprint(i), nil)) })
		testwait.Until(t, "the request to be served or queued", func() bool { s := pool.Stats(); return s.Open+s.Waiting == i+1 })
	}
	g.open <- struct{}{}
	g.open <- struct{}{}
	wg.Wait()
	var waited []string
	for range 2 {
		for _, line := range book.next(t) {
			if strings.Contains(line, "queue") {
				waited = append(waited, line)
			}
		}
	}
	if diff := cmp.Diff([]string{"begin queue web", "end queue web true"}, waited); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Without a tracer, the headers of traces pass unchanged, and records name the
// trace of the client.
func TestNoTracer(t *testing.T) {
	got := make(chan http.Header, 1)
	pool := poolFor(t, func(_ http.ResponseWriter, r *http.Request) { got <- r.Header })
	recs := newRecords()
	vs, site := serve(t, http1, limpet.Config{Pools: []*lbpool.Pool{pool}, OnComplete: recs.add})
	for _, parent := range []string{someParent, "not a trace"} {
		sent := http.Header{
			"Traceparent": {parent}, "Tracestate": {"a=1,b=" + strings.Repeat("x", 8<<10), "c=2"}, "Baggage": {"user=anna", "x=%20;p"},
		}
		r := newRequest(t, "GET", site.URL, nil)
		r.Header = sent.Clone()
		fetch(t, site.client(t), r)
		arrived := testwait.Receive(t, got, "the request")
		for name, want := range sent {
			if diff := cmp.Diff(want, arrived[name]); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
		want := ""
		if parent == someParent {
			want = someTrace
		}
		if id := recs.next(t).TraceID; id != want {
			t.Errorf("trace %q, want %q", id, want)
		}
	}
	if e := vs.Stats().Duration.Exemplars; len(e) > 0 { // a stranger would choose them
		t.Errorf("exemplars %v", e)
	}
}
