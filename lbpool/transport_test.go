package lbpool

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet/internal/splice"
	"github.com/limpetlb/limpet/internal/testwait"
)

// at returns server configurations for addresses.
func at(addrs ...netip.AddrPort) []ServerConfig {
	list := make([]ServerConfig, len(addrs))
	for i, a := range addrs {
		list[i].Address = a.String()
	}
	return list
}

func newServerOn(t testing.TB, handler http.HandlerFunc) netip.AddrPort {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return address(server)
}

// newTransport returns a transport whose connections do not outlive the test.
// It must be made after its servers, so that it lets go of them first.
func newTransport(t testing.TB) *Transport {
	tr := &Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

// request returns a request as a proxy has it: with a target that is not the
// server's, and without GetBody.
func request(ctx context.Context, method string, body io.Reader, route *Route) *http.Request {
	r, err := http.NewRequestWithContext(WithRoute(ctx, route), method, "http://site.example:8000/path?q=1", body)
	if err != nil {
		panic(err)
	}
	r.GetBody = nil
	return r
}

// trackedBody counts how often it is closed.
type trackedBody struct {
	io.Reader
	closed atomic.Int32
}

func (b *trackedBody) Close() error {
	b.closed.Add(1)
	return nil
}

func (b *trackedBody) wantClosedOnce(t *testing.T) {
	t.Helper()
	testwait.Until(t, "the request body to be closed", func() bool { return b.closed.Load() > 0 })
	if n := b.closed.Load(); n != 1 {
		t.Errorf("request body closed %d times", n)
	}
}

func open(p *Pool) (n int) {
	for _, s := range p.Servers() {
		n += s.Open()
	}
	return n
}

func wantOpen(t *testing.T, p *Pool, want int) {
	t.Helper()
	if n := open(p); n != want {
		t.Errorf("%d leases in use, want %d", n, want)
	}
}

func wantFailures(t *testing.T, p *Pool, want uint64) {
	t.Helper()
	var n uint64
	for _, s := range p.Servers() {
		n += s.Stats().Failures
	}
	if n != want {
		t.Errorf("%d failures counted against servers, want %d", n, want)
	}
}

func TestTransportForwards(t *testing.T) {
	server := newServerOn(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "X-Sum")
		fmt.Fprintf(w, "%s %s %s %s %q", r.Method, r.RequestURI, r.Host, r.Header.Get("X-In"), body)
		w.Header().Set("X-Sum", "42")
	})
	p := mustPool(t, Config{Servers: at(server)})
	tr := newTransport(t)
	route := &Route{Pool: p, Tried: 9, Unmet: ReasonFull}
	body := &trackedBody{Reader: strings.NewReader("hello")}
	req := request(t.Context(), "POST", body, route)
	req.Header.Set("X-In", "in")
	before, target := *req, *req.URL
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if req.URL != before.URL || *req.URL != target || req.Body != before.Body || req.Host != before.Host || req.GetBody != nil || len(req.Header) != 1 {
		t.Errorf("the request was changed: %+v", req)
	}
	if route.Server != p.Servers()[0] || route.Tried != 1 || route.Unmet != ReasonNone {
		t.Errorf("route = %+v", route)
	}
	wantOpen(t, p, 1)
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if want := `POST /path?q=1 site.example:8000 in "hello"`; string(got) != want {
		t.Errorf("the server saw %s, want %s", got, want)
	}
	if resp.Trailer.Get("X-Sum") != "42" {
		t.Errorf("trailer %v", resp.Trailer)
	}
	wantOpen(t, p, 0)
	resp.Body.Close()
	wantOpen(t, p, 0)
	body.wantClosedOnce(t)
	if s := p.Servers()[0].Stats(); s.Requests != 1 || s.Failures != 0 || s.FirstByte <= 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestTransportHost(t *testing.T) {
	server := newServerOn(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Host) })
	tr := newTransport(t)
	tr.Pool = mustPool(t, Config{Servers: at(server)})
	for _, test := range []struct {
		request *http.Request
		want    string
	}{
		{&http.Request{Host: "a.example", URL: &url.URL{Path: "/"}}, "a.example"},
		{&http.Request{URL: &url.URL{Scheme: "gopher", Host: "b.example", Path: "/"}}, "b.example"},
		{&http.Request{}, server.String()},
	} {
		test.request.Header = http.Header{}
		resp, err := tr.RoundTrip(test.request)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(got) != test.want {
			t.Errorf("Host %q, want %q", got, test.want)
		}
	}
}

// A server gets its own name as the Host if it has one and the pool says so,
// and the client's port if the pool says so.
func TestTransportRewritesHost(t *testing.T) {
	handler := func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Host) }
	one, two := newServerOn(t, handler), newServerOn(t, handler)
	port := func(a netip.AddrPort) string { return strconv.Itoa(int(a.Port())) }
	for _, test := range []struct {
		name     string
		hostname string
		cfg      Config
		want     string
	}{
		{"kept", "one.example", Config{}, "site.example"},
		{"rewritten", "one.example", Config{RewriteHost: true}, "one.example:" + port(one)},
		{"no name", "", Config{RewriteHost: true}, "site.example"},
		{"port of the client", "one.example", Config{RewriteHost: true, KeepPort: true}, "one.example:" + port(two)},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.cfg.Servers = []ServerConfig{{Address: one.String(), Hostname: test.hostname}}
			tr := newTransport(t)
			tr.Pool = mustPool(t, test.cfg)
			ctx := context.WithValue(t.Context(), http.LocalAddrContextKey, net.Addr(net.TCPAddrFromAddrPort(two)))
			req, err := http.NewRequestWithContext(ctx, "GET", "http://site.example/", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			got, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if string(got) != test.want {
				t.Errorf("Host %q, want %q", got, test.want)
			}
		})
	}
}

// The port is left out of the Host where a URL leaves it out, and nothing is
// kept of a client's port that nobody knows.
func TestAimPorts(t *testing.T) {
	for _, test := range []struct {
		name, scheme, address string
		keepPort              bool
		local                 net.Addr
		url, host             string
	}{
		{"http", "http", "10.0.0.1", false, nil, "http://10.0.0.1:80/", "a.example"},
		{"https", "https", "10.0.0.1", false, nil, "https://10.0.0.1:443/", "a.example"},
		{"https on another port", "https", "10.0.0.1:80", false, nil, "https://10.0.0.1:80/", "a.example:80"},
		{"the client's port", "http", "[2001:db8::1]:8080", true, &net.TCPAddr{Port: 80}, "http://[2001:db8::1]:80/", "a.example"},
		{"no port known", "http", "10.0.0.1:8080", true, nil, "http://10.0.0.1:8080/", "a.example:8080"},
		{"not TCP", "http", "10.0.0.1:8080", true, &net.UnixAddr{Name: "x"}, "http://10.0.0.1:8080/", "a.example:8080"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := mustPool(t, Config{Scheme: test.scheme, RewriteHost: true, KeepPort: test.keepPort,
				Servers: []ServerConfig{{Address: test.address, Hostname: "a.example"}}})
			req := &http.Request{Host: "site.example", URL: &url.URL{Path: "/"}}
			if test.local != nil {
				req = req.WithContext(context.WithValue(t.Context(), http.LocalAddrContextKey, test.local))
			}
			out := aim(req, p.Servers()[0])
			if out.URL.String() != test.url || out.Host != test.host || req.Host != "site.example" {
				t.Errorf("%s with Host %q, want %s with %q", out.URL, out.Host, test.url, test.host)
			}
		})
	}
}

// TLS goes by the name that the base has, whatever the Host.
func TestTransportServerName(t *testing.T) {
	var asked atomic.Value
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Host) }))
	server.TLS = &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		asked.Store(hello.ServerName)
		return nil, nil
	}}
	server.StartTLS()
	defer server.Close()
	base := NewBase()
	base.TLSClientConfig = server.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	base.TLSClientConfig.ServerName = "example.com" // as the certificate of httptest has it
	tr := newTransport(t)
	tr.Base = NewHTTP1(base)
	tr.Pool = mustPool(t, Config{Scheme: "https", RewriteHost: true, Servers: []ServerConfig{{Address: address(server).String(), Hostname: "one.example"}}})
	req, err := http.NewRequestWithContext(t.Context(), "GET", "https://site.example/", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	want := "one.example:" + strconv.Itoa(int(address(server).Port()))
	if got, _ := io.ReadAll(resp.Body); string(got) != want || asked.Load() != "example.com" {
		t.Errorf("Host %q, TLS %q, want %q, example.com", got, asked.Load(), want)
	}
}

func TestTransportReselects(t *testing.T) {
	var served atomic.Int32
	live := newServerOn(t, func(w http.ResponseWriter, r *http.Request) {
		served.Add(1)
		io.Copy(w, r.Body)
	})
	dead := []netip.AddrPort{refusing(t), refusing(t), refusing(t), refusing(t)}
	tests := []struct {
		name    string
		servers []netip.AddrPort
		reselect, repick,
		wanted int // index into servers, -1 for none
		tried int
		unmet Reason
		ok    bool
	}{
		{"first is dead", []netip.AddrPort{dead[0], live}, 0, 0, -1, 2, ReasonNone, true},
		{"two are dead", []netip.AddrPort{dead[0], dead[1], live}, 0, 0, -1, 3, ReasonNone, true},
		{"three are dead", []netip.AddrPort{dead[0], dead[1], dead[2], live}, 0, 0, -1, 3, ReasonNone, false},
		{"three are dead, more retries", []netip.AddrPort{dead[0], dead[1], dead[2], live}, 3, 0, -1, 4, ReasonNone, true},
		{"all are dead", dead[:2], 9, 0, -1, 2, ReasonNone, false},
		{"no retries", []netip.AddrPort{dead[0], live}, -1, 0, -1, 1, ReasonNone, false},
		{"wanted is dead", []netip.AddrPort{live, dead[0]}, 0, 0, 1, 2, ReasonDown, true},
		{"wanted is dead, never another", []netip.AddrPort{live, dead[0]}, 0, 1, 1, 1, ReasonNone, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			tr := newTransport(t)
			p := mustPool(t, Config{
				Servers: at(test.servers...), Algorithm: RoundRobin(), Repick: Repick(test.repick),
				Reselect: Reselect{Retries: test.reselect}, Passive: Passive{Disabled: true},
			})
			route := &Route{Pool: p}
			if test.wanted >= 0 {
				route.Hint.Server = test.servers[test.wanted]
			}
			before := served.Load()
			body := &trackedBody{Reader: strings.NewReader("the body")}
			resp, err := tr.RoundTrip(request(t.Context(), "POST", body, route))
			if route.Tried != test.tried || route.Unmet != test.unmet || len(route.Hint.Exclude) != 0 {
				t.Errorf("tried %d, unmet %q, want %d, %q", route.Tried, route.Unmet, test.tried, test.unmet)
			}
			for _, s := range p.Servers() {
				if n := s.Stats().Requests; n > 1 {
					t.Errorf("%s was tried %d times", s.Name(), n)
				}
			}
			if !test.ok {
				var fault *ForwardError
				if !errors.As(err, &fault) || !errors.Is(err, ErrConnect) || errors.Is(err, ErrTimeout) || errors.Is(err, ErrNoServer) {
					t.Fatalf("error %v, want a ForwardError that is ErrConnect", err)
				}
				if fault.Pool != "web" || fault.Tried != test.tried || fault.Server != route.Server.Addr() {
					t.Errorf("error %+v", fault)
				}
				wantFailures(t, p, uint64(test.tried))
			} else {
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if string(got) != "the body" || err != nil {
					t.Errorf("body %q, %v", got, err)
				}
				if n := served.Load() - before; n != 1 || route.Server.Addr() != live {
					t.Errorf("served %d times, by %s", n, route.Server.Addr())
				}
			}
			body.wantClosedOnce(t)
			wantOpen(t, p, 0)
		})
	}
}

func TestTransportWithoutServer(t *testing.T) {
	list := at(refusing(t))
	list[0].Disabled = true
	tr := newTransport(t)
	body := &trackedBody{Reader: strings.NewReader("x")}
	_, err := tr.RoundTrip(request(t.Context(), "POST", body, &Route{Pool: mustPool(t, Config{Servers: list})}))
	if !errors.Is(err, ErrNoServer) || errors.Is(err, ErrConnect) {
		t.Errorf("no server up: %v", err)
	}
	body.wantClosedOnce(t)

	route := &Route{Pool: mustPool(t, Config{Servers: list, Repick: RepickNever}), Hint: Hint{Server: addrPort(list[0].Address)}}
	_, err = tr.RoundTrip(request(t.Context(), "GET", nil, route))
	var unavailable *unavailableError
	if !errors.As(err, &unavailable) || unavailable.Reason != ReasonDisabled || route.Unmet != ReasonDisabled || route.Server != nil || route.Tried != 0 {
		t.Errorf("wanted server disabled: %v, route %+v", err, route)
	}

	body = &trackedBody{Reader: strings.NewReader("x")}
	req := httptest.NewRequest("POST", "/", body)
	if _, err := tr.RoundTrip(req); !errors.Is(err, ErrNoServer) || !errors.Is(err, errNoRoute) {
		t.Errorf("without a route: %v", err)
	}
	body.wantClosedOnce(t)
	if _, ok := RouteFrom(req.Context()); ok {
		t.Error("RouteFrom found a route where there is none")
	}
}

// roundTripper is a Base.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestTransportBody covers what a Base may do with a request body, and where it
// leads.
func TestTransportBody(t *testing.T) {
	refused := fmt.Errorf("x: %w", ErrConnect)
	tests := []struct {
		name  string
		first func(r *http.Request) // what the first attempt does before it fails to connect
		tried int
	}{
		{"nothing", func(*http.Request) {}, 2},
		{"closed", func(r *http.Request) { r.Body.Close() }, 2},
		{"closed twice", func(r *http.Request) { r.Body.Close(); r.Body.Close() }, 2},
		{"read a byte", func(r *http.Request) { r.Body.Read(make([]byte, 1)); r.Body.Close() }, 1},
		{"read after close", func(r *http.Request) {
			r.Body.Close()
			if n, err := r.Body.Read(make([]byte, 1)); n != 0 || err != http.ErrBodyReadAfterClose {
				panic(fmt.Sprint("read after close: ", n, err))
			}
		}, 2},
		{"had again", func(r *http.Request) {
			r.Body.Close()
			again, err := r.GetBody()
			if err != nil {
				panic(err)
			}
			again.Close()
		}, 2},
		{"had again and read", func(r *http.Request) {
			again, _ := r.GetBody()
			io.ReadAll(again)
			if _, err := r.GetBody(); err == nil {
				panic("a spent body can be had again")
			}
			again.Close()
		}, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := mustPool(t, Config{Servers: servers(2), Algorithm: RoundRobin()})
			attempts := 0
			var firstBody io.ReadCloser
			tr := &Transport{Base: roundTripper(func(r *http.Request) (*http.Response, error) {
				attempts++
				if attempts == 1 {
					firstBody = r.Body
					test.first(r)
					return nil, refused
				}
				firstBody.Close() // late, as a RoundTripper may
				if n, err := firstBody.Read(make([]byte, 1)); n != 0 || err == nil {
					t.Errorf("the first attempt still reads the body: %d, %v", n, err)
				}
				got, err := io.ReadAll(r.Body)
				if string(got) != "the body" || err != nil {
					t.Errorf("the second attempt read %q, %v", got, err)
				}
				r.Body.Close()
				return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
			})}
			body := &trackedBody{Reader: strings.NewReader("the body")}
			_, err := tr.RoundTrip(request(t.Context(), "POST", body, &Route{Pool: p}))
			if attempts != test.tried {
				t.Errorf("%d attempts, want %d", attempts, test.tried)
			}
			if test.tried == 1 && !errors.Is(err, ErrConnect) || test.tried == 2 && err != nil {
				t.Errorf("error %v", err)
			}
			if test.name == "nothing" && body.closed.Load() != 1 {
				t.Error("the body is not closed by the second attempt")
			}
			wantOpen(t, p, 0)
			if n := body.closed.Load(); n != 1 {
				t.Errorf("the body was closed %d times", n)
			}
		})
	}
}

// TestTransportLateClose is a Base that closes the body only after it has
// returned: so long it stays open.
func TestTransportLateClose(t *testing.T) {
	p := mustPool(t, Config{Servers: servers(1)})
	var late io.Closer
	tr := &Transport{Base: roundTripper(func(r *http.Request) (*http.Response, error) {
		late = r.Body
		return nil, errReset
	})}
	body := &trackedBody{Reader: strings.NewReader("the body")}
	if _, err := tr.RoundTrip(request(t.Context(), "POST", body, &Route{Pool: p})); !errors.Is(err, errReset) {
		t.Errorf("error %v", err)
	}
	if body.closed.Load() != 0 {
		t.Error("the body was closed under the Base's hands")
	}
	late.Close()
	body.wantClosedOnce(t)
}

func TestTransportNoBody(t *testing.T) {
	p := mustPool(t, Config{Servers: servers(1)})
	for _, body := range []io.ReadCloser{nil, http.NoBody} {
		tr := &Transport{Base: roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.Body != body {
				t.Errorf("body %v became %v", body, r.Body)
			}
			return &http.Response{StatusCode: 204, Body: http.NoBody}, nil
		})}
		req := request(t.Context(), "GET", nil, &Route{Pool: p})
		req.Body = body
		if _, err := tr.RoundTrip(req); err != nil {
			t.Error(err)
		}
		wantOpen(t, p, 0)
	}
	tr := &Transport{Base: roundTripper(func(r *http.Request) (*http.Response, error) { panic("oh") })}
	func() {
		defer func() { recover() }()
		tr.RoundTrip(request(t.Context(), "GET", nil, &Route{Pool: p}))
	}()
	wantOpen(t, p, 0) // a panic does not keep the lease
	wantFailures(t, p, 0)
	tr.CloseIdleConnections() // not supported by this Base: nothing happens
}

func TestTransportReleases(t *testing.T) {
	proceed := make(chan struct{})
	server := newServerOn(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.Header.Get("Do") {
		case "none":
			w.WriteHeader(http.StatusNoContent)
		case "long":
			io.WriteString(w, strings.Repeat("x", 1<<20))
		case "break":
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "short")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		case "hang":
			io.WriteString(w, "begin")
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
			case <-proceed:
			}
		}
	})
	defer close(proceed)
	tests := []struct {
		name, method, do string
		use              func(t *testing.T, body io.ReadCloser, cancel func())
		after            int // in use after RoundTrip
		failures         uint64
	}{
		{"no body", "GET", "none", func(*testing.T, io.ReadCloser, func()) {}, 0, 0},
		{"head", "HEAD", "long", func(*testing.T, io.ReadCloser, func()) {}, 0, 0},
		{"read to the end", "GET", "long", func(t *testing.T, b io.ReadCloser, _ func()) { io.Copy(io.Discard, b) }, 1, 0},
		{"closed early", "GET", "long", func(t *testing.T, b io.ReadCloser, _ func()) { b.Close() }, 1, 0},
		{"closed twice", "GET", "long", func(t *testing.T, b io.ReadCloser, _ func()) { b.Close(); b.Close() }, 1, 0},
		{"read and closed", "GET", "long", func(t *testing.T, b io.ReadCloser, _ func()) { io.Copy(io.Discard, b); b.Close() }, 1, 0},
		{"closed and read", "GET", "long", func(t *testing.T, b io.ReadCloser, _ func()) { b.Close(); io.Copy(io.Discard, b) }, 1, 0},
		{"broken by the server", "GET", "break", func(t *testing.T, b io.ReadCloser, _ func()) {
			if _, err := io.Copy(io.Discard, b); err != io.ErrUnexpectedEOF {
				t.Errorf("error %v, want an unexpected end", err)
			}
			b.Close()
		}, 1, 1},
		{"cancelled while reading", "GET", "hang", func(t *testing.T, b io.ReadCloser, cancel func()) {
			io.ReadFull(b, make([]byte, 5))
			time.AfterFunc(10*time.Millisecond, cancel)
			if _, err := io.Copy(io.Discard, b); !errors.Is(err, context.Canceled) {
				t.Errorf("error %v", err)
			}
			b.Close()
		}, 1, 0},
		{"cancelled and closed", "GET", "hang", func(t *testing.T, b io.ReadCloser, cancel func()) { cancel(); b.Close() }, 1, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			tr := newTransport(t)
			p := mustPool(t, Config{Servers: at(server)})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			req := request(ctx, test.method, nil, &Route{Pool: p})
			req.Header.Set("Do", test.do)
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			wantOpen(t, p, test.after)
			test.use(t, resp.Body, cancel)
			wantOpen(t, p, 0)
			wantFailures(t, p, test.failures)
			resp.Body.Close()
			wantOpen(t, p, 0)
		})
	}
}

// slowBody blocks until it is closed.
type slowBody struct{ closed chan struct{} }

func (b *slowBody) Read([]byte) (int, error) { <-b.closed; return 0, io.ErrClosedPipe }
func (b *slowBody) Close() error             { return nil }

func TestTransportErrors(t *testing.T) {
	t.Parallel()
	hanging := listen(t, func(conn *net.TCPConn) { io.Copy(io.Discard, conn) })
	resetting := listen(t, func(conn *net.TCPConn) {
		conn.Read(make([]byte, 1))
		conn.SetLinger(0)
	})
	junk := listen(t, func(conn *net.TCPConn) {
		io.WriteString(conn, "SSH-2.0-OpenSSH\r\n\r\n")
	})
	huge := listen(t, func(conn *net.TCPConn) {
		conn.Read(make([]byte, 1))
		io.WriteString(conn, "HTTP/1.1 200 OK\r\n")
		for {
			if _, err := io.WriteString(conn, "X: "+strings.Repeat("x", 10000)+"\r\n"); err != nil {
				return
			}
		}
	})
	broken := errors.New("client went away")
	stalled := &slowBody{closed: make(chan struct{})}
	dialTimeout := NewBase()
	dialTimeout.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Err: context.DeadlineExceeded}
	}
	impatient := NewBase()
	impatient.ResponseHeaderTimeout = 20 * time.Millisecond
	t.Cleanup(impatient.CloseIdleConnections)
	const short = 300 * time.Millisecond // in which a busy machine connects and sends
	tests := []struct {
		name                      string
		server                    netip.AddrPort
		base                      http.RoundTripper
		body                      io.Reader
		cancel, deadline          time.Duration
		connect, timeout, aborted bool
		is                        error
		failures                  uint64
	}{
		{name: "deadline", server: hanging, deadline: short, timeout: true, is: context.DeadlineExceeded, failures: 1},
		{name: "response header time-out", server: hanging, base: impatient, timeout: true, failures: 1},
		{name: "connect time-out", server: hanging, base: dialTimeout, connect: true, timeout: true, failures: 1},
		{name: "cancelled", server: hanging, cancel: short, aborted: true, is: context.Canceled},
		{name: "reset", server: resetting, failures: 1},
		{name: "junk", server: junk, failures: 1},
		{name: "huge header", server: huge, failures: 1},
		{name: "request body breaks", server: hanging, body: io.MultiReader(strings.NewReader("x"), &brokenReader{broken}), aborted: true, is: broken},
		{name: "request body stalls", server: hanging, body: stalled, deadline: short, timeout: true, aborted: true},
		{name: "all was sent before the deadline", server: hanging, body: strings.NewReader("x"), deadline: short, timeout: true, failures: 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			tr := newTransport(t)
			tr.Base = test.base
			p := mustPool(t, Config{Servers: at(test.server)})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if test.deadline > 0 {
				ctx, cancel = context.WithTimeout(ctx, test.deadline)
				defer cancel()
			}
			if test.cancel > 0 {
				time.AfterFunc(test.cancel, cancel)
			}
			if test.body == stalled {
				context.AfterFunc(ctx, func() { time.AfterFunc(200*time.Millisecond, func() { close(stalled.closed) }) })
			}
			resp, err := tr.RoundTrip(request(ctx, "POST", test.body, &Route{Pool: p}))
			if err == nil {
				resp.Body.Close()
				t.Fatal("no error")
			}
			var fault *ForwardError
			if !errors.As(err, &fault) || fault.Server != test.server || fault.Tried != 1 {
				t.Fatalf("error %#v, want a ForwardError", err)
			}
			if errors.Is(err, ErrConnect) != test.connect || errors.Is(err, ErrTimeout) != test.timeout ||
				errors.Is(err, ErrAborted) != test.aborted || errors.Is(err, ErrNoServer) || fault.Timeout() != test.timeout {
				t.Errorf("%v: connect %v, time-out %v, aborted %v", err, errors.Is(err, ErrConnect), errors.Is(err, ErrTimeout), errors.Is(err, ErrAborted))
			}
			if test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("%v does not wrap %v", err, test.is)
			}
			if !strings.HasPrefix(err.Error(), fmt.Sprintf(`pool "web": server %s: `, test.server)) {
				t.Errorf("text %q", err)
			}
			wantOpen(t, p, 0)
			wantFailures(t, p, test.failures)
		})
	}
}

type brokenReader struct{ err error }

func (r *brokenReader) Read([]byte) (int, error) { return 0, r.err }

// TestTransportIdleConnectionBreaks has a server close connections when they
// are used again, without an answer. It may have closed them because they were
// idle, which is no failure; on a new connection it is one.
func TestTransportIdleConnectionBreaks(t *testing.T) {
	for _, kept := range []bool{false, true} {
		for _, body := range []string{"", "the body", strings.Repeat("long", 1<<20)} {
			server := listen(t, func(conn *net.TCPConn) {
				r := bufio.NewReader(conn)
				for n := 0; ; n++ {
					if _, err := http.ReadRequest(r); err != nil || n == 1 || !kept {
						conn.SetLinger(0)
						return
					}
					io.WriteString(conn, "HTTP/1.1 204 No Content\r\n\r\n")
				}
			})
			tr := newTransport(t)
			p := mustPool(t, Config{Servers: at(server)})
			if kept {
				resp, err := tr.RoundTrip(request(t.Context(), "GET", nil, &Route{Pool: p}))
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
			}
			resp, err := tr.RoundTrip(request(t.Context(), "POST", strings.NewReader(body), &Route{Pool: p}))
			if err == nil {
				resp.Body.Close()
				t.Fatalf("kept %v, body of %d bytes: answered", kept, len(body))
			}
			wantOpen(t, p, 0)
			if kept {
				wantFailures(t, p, 0)
			} else {
				wantFailures(t, p, 1)
			}
		}
	}
}

// TestTransportStaleConnection sends POSTs over a connection that the server
// has closed meanwhile: nothing was written, so the http.Transport sends them
// again, which it can only because of the guard's GetBody.
func TestTransportStaleConnection(t *testing.T) {
	var connections atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	tr := newTransport(t)
	var stale atomic.Bool
	base := NewBase()
	dial := base.DialContext
	base.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		return &fickleConn{Conn: conn, stale: &stale}, err
	}
	tr.Base = base
	p := mustPool(t, Config{Servers: at(address(server))})
	for i := range 3 {
		stale.Store(i > 0)
		resp, err := tr.RoundTrip(request(t.Context(), "POST", &trackedBody{Reader: strings.NewReader("the body")}, &Route{Pool: p}))
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(got) != "the body" || err != nil {
			t.Errorf("request %d: %q, %v", i, got, err)
		}
	}
	if n := connections.Load(); n != 3 {
		t.Errorf("%d connections, want 3", n)
	}
	wantFailures(t, p, 0)
}

// fickleConn fails a write, once, when it is stale and has been used before.
type fickleConn struct {
	net.Conn
	stale  *atomic.Bool
	writes int
}

func (c *fickleConn) Write(b []byte) (int, error) {
	c.writes++
	if c.writes > 1 && c.stale.CompareAndSwap(true, false) {
		return 0, net.ErrClosed
	}
	return c.Conn.Write(b)
}

func TestTransportBytesPassUntouched(t *testing.T) {
	zipped := []byte("\x1f\x8b\x08 not really gzip")
	var accept string
	server := newServerOn(t, func(w http.ResponseWriter, r *http.Request) {
		accept = r.Header.Get("Accept-Encoding")
		w.Header().Set("Content-Encoding", "gzip")
		w.Write(zipped)
	})
	tr := newTransport(t)
	resp, err := tr.RoundTrip(request(t.Context(), "GET", nil, &Route{Pool: mustPool(t, Config{Servers: at(server)})}))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, _ := io.ReadAll(resp.Body); !bytes.Equal(got, zipped) || accept != "" || resp.Header.Get("Content-Encoding") != "gzip" {
		t.Errorf("got %q, Accept-Encoding %q", got, accept)
	}
}

func TestTransportTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) }))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	p := mustPool(t, Config{Servers: at(address(server)), Scheme: "https"})
	untrusting := newTransport(t)
	_, err := untrusting.RoundTrip(request(t.Context(), "GET", nil, &Route{Pool: p}))
	if !errors.Is(err, ErrConnect) {
		t.Errorf("untrusted certificate: %v, want ErrConnect", err)
	}
	base := NewBase()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	base.TLSClientConfig = server.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	base.TLSClientConfig.RootCAs = roots
	tr := newTransport(t)
	tr.Base = base
	resp, err := tr.RoundTrip(request(t.Context(), "GET", nil, &Route{Pool: p}))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, _ := io.ReadAll(resp.Body); string(got) != "HTTP/1.1" {
		t.Errorf("protocol %s", got)
	}
}

// upgrading speaks an echo protocol after an upgrade, and ends it when the
// client ends its direction.
func upgrading(t testing.TB) netip.AddrPort {
	return newServerOn(t, func(w http.ResponseWriter, r *http.Request) {
		conn, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello ")
		io.Copy(conn, buf)
	})
}

func TestTransportUpgrade(t *testing.T) {
	server := upgrading(t)
	tr := newTransport(t)
	p := mustPool(t, Config{Servers: at(server)})
	req := request(t.Context(), "GET", nil, &Route{Pool: p})
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "echo")
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	conn, ok := resp.Body.(interface {
		io.ReadWriteCloser
		CloseWrite() error
	})
	if !ok || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("status %d, body %T", resp.StatusCode, resp.Body)
	}
	if _, err := io.WriteString(conn, "world"); err != nil {
		t.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	if string(got) != "hello world" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	wantOpen(t, p, 1) // the end of one direction, and even of both, is not yet the end of the connection
	conn.Close()
	wantOpen(t, p, 0)
	conn.Close()
	wantOpen(t, p, 0)
	wantFailures(t, p, 0)

	plain := &leasedConn{Conn: splice.LimitIdle(struct {
		io.Reader
		io.Writer
		io.Closer
	}{}, 0)}
	if err := plain.CloseWrite(); !errors.Is(err, http.ErrNotSupported) {
		t.Errorf("CloseWrite of a connection without it: %v", err)
	}
}

func TestReverseProxyUpgrade(t *testing.T) {
	server := upgrading(t)
	tr := newTransport(t)
	tr.Pool = mustPool(t, Config{Servers: at(server)})
	front := newServerOn(t, (&httputil.ReverseProxy{
		Rewrite: func(*httputil.ProxyRequest) {}, Transport: tr, ErrorLog: log.New(io.Discard, "", 0),
	}).ServeHTTP)
	for range 20 {
		conn, err := net.Dial("tcp", front.String())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		r := bufio.NewReader(conn)
		resp, err := http.ReadResponse(r, nil)
		if err != nil || resp.StatusCode != 101 {
			t.Fatalf("response %v, %v", resp, err)
		}
		io.WriteString(conn, "late")
		conn.(*net.TCPConn).CloseWrite()
		got, err := io.ReadAll(r)
		if string(got) != "hello late" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
		conn.Close()
	}
	testwait.Until(t, "the leases", func() bool { return open(tr.Pool) == 0 })
}

// TestReverseProxyUnderFailure sends POSTs through a proxy while one server of
// three refuses connections, and clients leave: every request is answered, and
// none is served twice.
func TestReverseProxyUnderFailure(t *testing.T) {
	var mu sync.Mutex
	served := map[string]int{}
	handler := func(w http.ResponseWriter, r *http.Request) {
		id, _ := io.ReadAll(r.Body)
		mu.Lock()
		served[string(id)]++
		mu.Unlock()
		w.Write(id)
	}
	a, b := newServerOn(t, handler), newServerOn(t, handler)
	tr := newTransport(t)
	p := mustPool(t, Config{Servers: at(a, refusing(t), b), Passive: Passive{Failures: 5, Time: time.Millisecond, MaxTime: 2 * time.Millisecond}})
	tr.Pool = p
	front := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(*httputil.ProxyRequest) {}, Transport: tr, ErrorLog: log.New(io.Discard, "", 0),
	})
	defer front.Close()
	client := front.Client()
	var group sync.WaitGroup
	for g := range 8 {
		group.Go(func() {
			for i := range 50 {
				ctx, cancel := context.WithCancel(t.Context())
				id := fmt.Sprintf("%d-%d", g, i)
				leaves := i%10 == 9
				if leaves {
					time.AfterFunc(time.Duration(i)*10*time.Microsecond, cancel)
				}
				req, _ := http.NewRequestWithContext(ctx, "POST", front.URL, strings.NewReader(id))
				resp, err := client.Do(req)
				if err == nil {
					got, err := io.ReadAll(resp.Body)
					resp.Body.Close()
					if !leaves && (err != nil || string(got) != id || resp.StatusCode != 200) {
						t.Errorf("request %s: %d %q %v", id, resp.StatusCode, got, err)
					}
				} else if !leaves {
					t.Errorf("request %s: %v", id, err)
				}
				cancel()
			}
		})
	}
	group.Wait()
	testwait.Until(t, "the leases", func() bool { return open(p) == 0 })
	mu.Lock()
	defer mu.Unlock()
	for id, n := range served {
		if n != 1 {
			t.Errorf("request %s was served %d times", id, n)
		}
	}
	dead := p.Servers()[1].Stats()
	if dead.Failures == 0 || dead.Ejections == 0 {
		t.Errorf("the dead server's stats: %+v", dead)
	}
	for _, i := range []int{0, 2} {
		if s := p.Servers()[i].Stats(); s.Failures != 0 || s.Requests == 0 {
			t.Errorf("a live server's stats: %+v", s)
		}
	}
}

func TestNewBase(t *testing.T) {
	a, b := NewBase(), NewBase()
	if a == b || a.Proxy != nil || !a.DisableCompression || a.ForceAttemptHTTP2 {
		t.Errorf("NewBase = %+v", a)
	}
	tr := &Transport{}
	if tr.roundTripper() != tr.roundTripper() {
		t.Error("the base is made more than once")
	}
}

func TestAim(t *testing.T) {
	p := mustPool(t, Config{Servers: []ServerConfig{{Address: "2001:db8::1"}}, Scheme: "https"})
	in := &http.Request{Method: "GET", URL: &url.URL{Scheme: "http", Host: "h", Path: "/a b", RawQuery: "q"}, TransferEncoding: []string{"chunked"}}
	out := aim(in, p.Servers()[0])
	if got, want := out.URL.String(), "https://[2001:db8::1]:443/a%20b?q"; got != want {
		t.Errorf("URL %s, want %s", got, want)
	}
	if out.Host != "h" || !slices.Equal(out.TransferEncoding, in.TransferEncoding) {
		t.Errorf("request %+v", out)
	}
	if diff := cmp.Diff(&url.URL{Scheme: "http", Host: "h", Path: "/a b", RawQuery: "q"}, in.URL); diff != "" {
		t.Errorf("the original changed:\n%s", diff)
	}
}

// BenchmarkTransport is what a Transport adds to its Base.
func BenchmarkTransport(b *testing.B) {
	p := mustPool(b, Config{Servers: servers(100)})
	answer := &trackedBody{Reader: strings.NewReader("")}
	tr := &Transport{Base: roundTripper(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Body: answer}, nil
	})}
	for _, body := range []io.ReadCloser{nil, &trackedBody{Reader: strings.NewReader("")}} {
		b.Run(fmt.Sprintf("body=%v", body != nil), func(b *testing.B) {
			req := request(b.Context(), "POST", nil, &Route{Pool: p})
			req.Body = body
			b.ReportAllocs()
			for b.Loop() {
				resp, err := tr.RoundTrip(req)
				if err != nil {
					b.Fatal(err)
				}
				resp.Body.Close()
			}
		})
	}
}

// TestTransportBlamesNobody sends requests that cannot be sent, again and
// again, through transports of all kinds. Servers were ejected for them: any
// client could take a service down.
func TestTransportBlamesNobody(t *testing.T) {
	bases := map[string]func() http.RoundTripper{
		"own":      func() http.RoundTripper { return NewHTTP1(nil) },
		"left":     func() http.RoundTripper { b := NewBase(); b.MaxConnsPerHost = 10; return NewHTTP1(b) },
		"standard": func() http.RoundTripper { return NewBase() },
		"another":  func() http.RoundTripper { b := NewBase(); return roundTripper(b.RoundTrip) },
	}
	for name, base := range bases {
		for _, test := range []struct {
			name string
			edit func(*http.Request)
			late bool // found out at the end of the body, by our own transport
		}{
			{name: "method", edit: func(r *http.Request) { r.Method = "G T" }},
			{name: "field name", edit: func(r *http.Request) { r.Header["A "] = []string{"b"} }},
			{name: "field value", edit: func(r *http.Request) { r.Header["A"] = []string{"b\x00"} }},
			{name: "host", edit: func(r *http.Request) { r.Host = "a b" }},
			{name: "path", edit: func(r *http.Request) { r.URL.Opaque = "admin/x" }},
			{name: "query", edit: func(r *http.Request) { r.URL.RawQuery = "\n" }},
			{name: "announced trailer", edit: func(r *http.Request) { r.ContentLength, r.Trailer = -1, http.Header{"Content-Length": nil} }},
			{name: "length", edit: func(r *http.Request) { r.ContentLength = 3 }, late: true},
		} {
			if test.late && name != "own" {
				continue
			}
			t.Run(name+"/"+test.name, func(t *testing.T) {
				var seen atomic.Int32
				handler := func(_ http.ResponseWriter, r *http.Request) {
					seen.Add(1)
					io.Copy(io.Discard, r.Body)
				}
				server, other := newServerOn(t, handler), newServerOn(t, handler)
				tr := newTransport(t)
				tr.Base = base()
				p := mustPool(t, Config{Servers: at(server, other), Passive: Passive{Failures: 1}, Reselect: Reselect{Retries: 3, Broken: true, MaxBody: 100}})
				for range 10 {
					body := &trackedBody{Reader: strings.NewReader("body")}
					route := &Route{Pool: p}
					r := request(t.Context(), "PUT", body, route)
					r.ContentLength = 4
					test.edit(r)
					_, err := tr.RoundTrip(r)
					var fault *ForwardError
					if !errors.Is(err, ErrRequest) || errors.Is(err, ErrAborted) || errors.Is(err, ErrConnect) || !errors.As(err, &fault) {
						t.Fatalf("error %v", err)
					}
					if route.Tried != 1 {
						t.Errorf("%d servers tried", route.Tried)
					}
					body.wantClosedOnce(t)
				}
				if !test.late && seen.Load() > 0 {
					t.Errorf("%d requests sent", seen.Load())
				}
				wantOpen(t, p, 0)
				wantFailures(t, p, 0)
				for _, s := range p.Servers() {
					if s.State() != Up {
						t.Errorf("%s is %s", s.Addr(), s.State())
					}
				}
			})
		}
	}
}

// TestTransportMalformedAnswers gets heads that the standard library lets pass:
// a status with which its servers panic, a length that is not seen, so that the
// client waits for the end of the connection.
func TestTransportMalformedAnswers(t *testing.T) {
	for name, base := range map[string]func() http.RoundTripper{
		"own":      func() http.RoundTripper { return NewHTTP1(nil) },
		"left":     func() http.RoundTripper { b := NewBase(); b.MaxConnsPerHost = 10; return NewHTTP1(b) },
		"standard": func() http.RoundTripper { return NewBase() },
	} {
		for _, head := range []string{
			"000 X\r\nContent-Length: 2", "099 X\r\nContent-Length: 2", "+12 X\r\nContent-Length: 2", "200 O\x00K\r\nContent-Length: 2",
			"200 OK\r\nContent-Length : 2", "200 OK\r\nContent Length: 2", "200 OK\r\nTransfer-Encoding : chunked",
			"200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A B",
		} {
			t.Run(name+"/"+head, func(t *testing.T) {
				tr := newTransport(t)
				tr.Base = base()
				p := mustPool(t, Config{Servers: at(listen(t, func(conn *net.TCPConn) {
					conn.Read(make([]byte, 1000))
					io.WriteString(conn, "HTTP/1.1 "+head+"\r\n\r\nok")
					io.Copy(io.Discard, conn)
				}))})
				_, err := tr.RoundTrip(request(t.Context(), "GET", nil, &Route{Pool: p}))
				var fault *ForwardError
				if !errors.As(err, &fault) || errors.Is(err, ErrRequest) {
					t.Errorf("error %v", err)
				}
				wantOpen(t, p, 0)
				wantFailures(t, p, 1)
			})
		}
	}
}

// TestTransportTarget forwards a target as it came in, through either
// transport.
func TestTransportTarget(t *testing.T) {
	server := newServerOn(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.RequestURI) })
	for name, base := range map[string]func() http.RoundTripper{
		"own":      func() http.RoundTripper { return NewHTTP1(nil) },
		"standard": func() http.RoundTripper { return NewBase() },
	} {
		t.Run(name, func(t *testing.T) {
			tr := newTransport(t)
			tr.Base = base()
			p := mustPool(t, Config{Servers: at(server)})
			r := request(t.Context(), "GET", nil, &Route{Pool: p})
			var err error
			if r.URL, err = url.ParseRequestURI(`/a%2Fb|c%2Bd?e|f`); err != nil {
				t.Fatal(err)
			}
			resp, err := tr.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if got, err := io.ReadAll(resp.Body); string(got) != `/a%2Fb%7Cc%2Bd?e|f` || err != nil {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

// arrivedBody says that it is here.
type arrivedBody struct{ trackedBody }

func (*arrivedBody) Buffered() (n int, known bool) { return 4, true }

// TestTransportContinueNotAwaited sends a body that is here already to a server
// that ignores Expect.
func TestTransportContinueNotAwaited(t *testing.T) {
	server := listen(t, func(conn *net.TCPConn) {
		r := bufio.NewReader(conn)
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		io.Copy(io.Discard, req.Body)
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	})
	base := NewBase()
	base.ExpectContinueTimeout = time.Hour
	tr := newTransport(t)
	tr.Base = NewHTTP1(base)
	p := mustPool(t, Config{Servers: at(server)})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r := request(ctx, "PUT", &arrivedBody{trackedBody{Reader: strings.NewReader("body")}}, &Route{Pool: p})
	r.ContentLength = 4
	r.Header.Set("Expect", "100-continue")
	resp, err := tr.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}
