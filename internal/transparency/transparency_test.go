package transparency

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A bare handler is transparent by definition.
func TestNothingInBetween(t *testing.T) {
	Run(t, Target{Middleware: func(_ testing.TB, next http.Handler) http.Handler { return next }})
}

func TestKnown(t *testing.T) {
	target := Target{Known: map[string]string{"early bytes": "lost", "bodies/HTTP2": "long"}}
	for _, test := range []struct {
		names    []string
		failures []string
		want     []string
	}{
		{[]string{"early bytes", "early bytes/HTTP1"}, []string{"a"}, nil},
		{[]string{"early bytes", "early bytes/HTTP1"}, nil, []string{"the case passes, though it is known to fail: lost"}},
		{[]string{"bodies", "bodies/HTTP2"}, []string{"a", "b"}, nil},
		{[]string{"bodies", "bodies/HTTP1"}, []string{"a", "b"}, []string{"a", "b"}},
		{[]string{"bodies", "bodies/HTTP1"}, nil, nil},
	} {
		reason, known := target.known(test.names...)
		if got := verdict(test.failures, reason, known); !slices.Equal(got, test.want) {
			t.Errorf("%s with %q: %q, want %q", test.names[1], test.failures, got, test.want)
		}
	}
}

// breakages are middlewares and proxies that are broken in one way each, with
// the cases that must notice it.
var breakages = []struct {
	name   string
	target Target
	cases  []string
}{
	{"writer that can do only what it must", wrapping(func(w http.ResponseWriter) http.ResponseWriter {
		return struct{ http.ResponseWriter }{w}
	}), []string{"interfaces", "deadlines", "streaming", "server-sent events", "hijack", "upgrade", "WebSocket"}},
	{"writer without ReaderFrom", wrapping(func(w http.ResponseWriter) http.ResponseWriter {
		return struct {
			http.ResponseWriter
			http.Flusher
			http.Hijacker
			io.StringWriter
		}{w, w.(http.Flusher), w.(http.Hijacker), w.(io.StringWriter)}
	}), []string{"interfaces"}},
	{"one WriteHeader only", wrapping(func(w http.ResponseWriter) http.ResponseWriter { return &onceWriter{unwrapper{w}, false} }),
		[]string{"early hints"}},
	{"header of its own", wrapping(func(w http.ResponseWriter) http.ResponseWriter {
		return &ownHeader{unwrapper{w}, http.Header{}, false}
	}), []string{"trailers"}},
	{"response in memory", around(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		rec := httptest.NewRecorder()
		next.ServeHTTP(rec, r)
		maps.Copy(w.Header(), rec.Header())
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes())
	}), []string{"large download", "full duplex", "early answer"}},
	{"request in memory", around(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		next.ServeHTTP(w, r)
	}), []string{"large upload", "full duplex", "early answer", "expect continue", "client leaves the upload"}},
	{"context of its own", around(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(context.WithoutCancel(r.Context())))
	}), []string{"client leaves before the answer", "client leaves the download"}},
	{"panics are recovered", around(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		defer func() { _ = recover() }()
		next.ServeHTTP(w, r)
	}), []string{"panics", "cut off", "nothing at all"}},
	{"panics leave something behind", Target{Middleware: func(t testing.TB, next http.Handler) http.Handler {
		var left [][]byte
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			left = append(left, make([]byte, 8000))
			next.ServeHTTP(w, r)
			left = left[:len(left)-1]
		})
	}}, []string{"panics leak nothing"}},
	{"header added", around(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		r.Header.Set("X-Added", "1")
		w.Header().Set("X-Added", "1")
		next.ServeHTTP(w, r)
	}), []string{"end-to-end headers", "request"}},
	{"path cleaned", around(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		r.URL.Path = path.Clean(r.URL.Path)
		next.ServeHTTP(w, r)
	}), []string{"request"}},
	{"encoding removed", around(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Accept-Encoding")
		next.ServeHTTP(w, r)
	}), []string{"compressed"}},
	{"GET in place of HEAD", around(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		r.Method = strings.Replace(r.Method, "HEAD", "GET", 1)
		next.ServeHTTP(w, r)
	}), []string{"without body"}},
	{"connections closed", around(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		next.ServeHTTP(w, r)
	}), []string{"keep-alive", "upgrade refused"}},
	{"ranges ignored", around(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Range")
		next.ServeHTTP(w, r)
	}), []string{"files"}},
	{"last byte lost", wrapping(func(w http.ResponseWriter) http.ResponseWriter { return losing{unwrapper{w}} }),
		[]string{"bodies", "expect continue, many times"}},
	{"length taken away", wrapping(func(w http.ResponseWriter) http.ResponseWriter { return &unmeasured{unwrapper{w}} }),
		[]string{"short body", "bodies"}},
	{"early bytes dropped", hijacking(func(c net.Conn, rw *bufio.ReadWriter) (net.Conn, *bufio.ReadWriter) {
		return c, bufio.NewReadWriter(bufio.NewReader(c), bufio.NewWriter(c))
	}), []string{"early bytes"}},
	{"no half-closed connections", hijacking(func(c net.Conn, rw *bufio.ReadWriter) (net.Conn, *bufio.ReadWriter) {
		return fullCloser{c}, rw
	}), []string{"handler half closes"}},
	{"connections cut when the client half closes", hijacking(func(c net.Conn, rw *bufio.ReadWriter) (net.Conn, *bufio.ReadWriter) {
		return c, bufio.NewReadWriter(bufio.NewReader(cutting{c}), rw.Writer)
	}), []string{"client half closes"}},
	{"what comes first dropped", hijacking(func(c net.Conn, rw *bufio.ReadWriter) (net.Conn, *bufio.ReadWriter) {
		return &firstLost{Conn: c}, rw
	}), []string{"early answer bytes"}},
	{"connections kept open", hijacking(func(c net.Conn, rw *bufio.ReadWriter) (net.Conn, *bufio.ReadWriter) {
		return unclosed{c}, rw
	}), []string{"upgraded handler dies", "many upgrades"}},
	{"ends not noticed", hijacking(func(c net.Conn, rw *bufio.ReadWriter) (net.Conn, *bufio.ReadWriter) {
		return c, bufio.NewReadWriter(bufio.NewReader(deaf{c}), rw.Writer)
	}), []string{"upgraded client dies"}},

	{"proxy that knows no failure", Target{Proxy: naive, HeaderTimeout: 50 * time.Millisecond}, []string{
		"hop-by-hop request headers", "hop-by-hop response headers", "hop-by-hop response headers of a server that closes",
		"server hangs", "server hangs in the header", "server hangs in the body", "server trickles",
		"server trickles a body of known length", "server closes", "server resets", "server cannot be reached",
		"server sends junk", "server sends a huge header", "server sends many headers", "server's body is cut off",
		"upgrade not asked for", "other upgrade",
	}},
	{"proxy that ends hints with a success", Target{Proxy: impatient, HeaderTimeout: 50 * time.Millisecond},
		[]string{"server gives hints without end"}},
	{"proxy that takes what comes", Target{Proxy: oneConnection}, []string{"server sends too much"}},
	{"httputil.ReverseProxy", Target{Proxy: func(t testing.TB, origin *url.URL) http.Handler {
		transport := &http.Transport{}
		t.Cleanup(transport.CloseIdleConnections)
		return &httputil.ReverseProxy{Rewrite: func(pr *httputil.ProxyRequest) { pr.SetURL(origin) }, Transport: transport}
	}}, []string{
		"early bytes", "compressed", "server trickles a body of known length", "hop-by-hop response headers of a server that closes",
		"hop-by-hop request trailers", "hop-by-hop trailers", "hop-by-hop headers of early hints", "hop-by-hop headers of an upgrade",
	}},
}

// measureHeap are the cases that watch how the heap grows.
var measureHeap = []string{"panics leak nothing", "large download", "large upload", "server sends a huge header"}

// Each case that a breakage is named for fails.
func TestBroken(t *testing.T) {
	for _, b := range breakages {
		for _, name := range b.cases {
			t.Run(b.name+"/"+name, func(t *testing.T) {
				if !slices.Contains(measureHeap, name) { // others use it too
					t.Parallel()
				}
				i := slices.IndexFunc(cases, func(c testCase) bool { return c.name == name })
				if i < 0 || !b.target.runs(cases[i]) {
					t.Fatal("there is no such case for this target")
				}
				failures := cases[i].failures(t, b.target, cases[i].protocols[0], brief)
				if len(failures) == 0 {
					t.Error("the case passes")
				}
				t.Log(strings.Join(failures, "; "))
			})
		}
	}
}

// There is no case that nothing can fail.
func TestEveryCaseCanFail(t *testing.T) {
	for _, c := range cases {
		found := false
		for _, b := range breakages {
			found = found || slices.Contains(b.cases, c.name)
		}
		if !found {
			t.Errorf("no breakage is named for the case %q", c.name)
		}
	}
}

func around(serve func(next http.Handler, w http.ResponseWriter, r *http.Request)) Target {
	return Target{Middleware: func(_ testing.TB, next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { serve(next, w, r) })
	}}
}

func wrapping(wrap func(http.ResponseWriter) http.ResponseWriter) Target {
	return around(func(next http.Handler, w http.ResponseWriter, r *http.Request) { next.ServeHTTP(wrap(w), r) })
}

// unwrapper lets http.ResponseController reach what is beneath.
type unwrapper struct{ http.ResponseWriter }

func (u unwrapper) Unwrap() http.ResponseWriter { return u.ResponseWriter }

type onceWriter struct {
	unwrapper
	done bool
}

func (w *onceWriter) WriteHeader(status int) {
	if !w.done {
		w.done = true
		w.unwrapper.WriteHeader(max(status, 200))
	}
}

// ownHeader copies its header when that is written, and not again.
type ownHeader struct {
	unwrapper
	header http.Header
	done   bool
}

func (w *ownHeader) Header() http.Header { return w.header }

func (w *ownHeader) WriteHeader(status int) {
	w.done = true
	maps.Copy(w.unwrapper.Header(), w.header)
	w.unwrapper.WriteHeader(status)
}

func (w *ownHeader) Write(b []byte) (int, error) {
	if !w.done {
		w.WriteHeader(http.StatusOK)
	}
	return w.unwrapper.Write(b)
}

type losing struct{ unwrapper }

func (w losing) Write(b []byte) (int, error) {
	n, err := w.unwrapper.Write(b[:max(len(b)-1, 0)])
	return min(n+1, len(b)), err
}

type unmeasured struct{ unwrapper }

func (w *unmeasured) Write(b []byte) (int, error) {
	w.Header().Del("Content-Length")
	_ = http.NewResponseController(w.ResponseWriter).Flush()
	return w.unwrapper.Write(b)
}

// hijacking changes connections that are given away.
func hijacking(change func(net.Conn, *bufio.ReadWriter) (net.Conn, *bufio.ReadWriter)) Target {
	return wrapping(func(w http.ResponseWriter) http.ResponseWriter { return hijackWriter{unwrapper{w}, change} })
}

type hijackWriter struct {
	unwrapper
	change func(net.Conn, *bufio.ReadWriter) (net.Conn, *bufio.ReadWriter)
}

func (w hijackWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := w.ResponseWriter.(http.Hijacker).Hijack()
	if err == nil {
		c, rw = w.change(c, rw)
	}
	return c, rw, err
}

type fullCloser struct{ net.Conn }

func (c fullCloser) CloseWrite() error { return c.Close() }

// cutting closes when the other end has sent all.
type cutting struct{ net.Conn }

func (c cutting) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err == io.EOF {
		c.Conn.Close()
	}
	return n, err
}

type firstLost struct {
	net.Conn
	done bool
}

func (c *firstLost) Write(b []byte) (int, error) {
	if c.done {
		return c.Conn.Write(b)
	}
	c.done = true
	_, err := c.Conn.Write(b[:min(len(b), len(switching))])
	return len(b), err
}

// unclosed closes too late. Without the timer the garbage collector would close
// it, at any time.
type unclosed struct{ net.Conn }

func (c unclosed) Close() error {
	time.AfterFunc(3*brief.limit, func() { _ = c.Conn.Close() })
	return nil
}

// deaf notices late that the other end is gone.
type deaf struct{ net.Conn }

func (c deaf) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil {
		<-time.After(2 * brief.limit)
	}
	return n, err
}

// naive forwards requests and does not care how that goes. It waits for servers
// for ever, which is until the case ends.
func naive(t testing.TB, origin *url.URL) http.Handler {
	transport := &http.Transport{MaxConnsPerHost: 10}
	t.Cleanup(transport.CloseIdleConnections)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out := r.Clone(context.WithoutCancel(r.Context()))
		out.URL.Scheme, out.URL.Host, out.RequestURI = origin.Scheme, origin.Host, ""
		res, err := transport.RoundTrip(out)
		if err != nil {
			return
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(io.LimitReader(res.Body, 1<<20))
		for name, values := range res.Header {
			if len(w.Header()) < 100 {
				w.Header()[name] = values
			}
		}
		w.Header().Del("Content-Length")
		w.WriteHeader(max(res.StatusCode, 200))
		_, _ = w.Write(body)
	})
}

// impatient answers with success what it has given up.
func impatient(t testing.TB, origin *url.URL) http.Handler {
	transport := &http.Transport{ResponseHeaderTimeout: 50 * time.Millisecond}
	t.Cleanup(transport.CloseIdleConnections)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out := r.Clone(r.Context())
		out.URL.Scheme, out.URL.Host, out.RequestURI = origin.Scheme, origin.Host, ""
		if res, err := transport.RoundTrip(out); err == nil {
			res.Body.Close()
		}
	})
}

// oneConnection sends all requests on one connection and takes what it reads
// there for the answer.
func oneConnection(t testing.TB, origin *url.URL) http.Handler {
	c, err := net.Dial("tcp", origin.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	var mu sync.Mutex
	answers := bufio.NewReader(c)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")
		res, err := http.ReadResponse(answers, r)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		_, _ = io.Copy(w, res.Body)
	})
}
