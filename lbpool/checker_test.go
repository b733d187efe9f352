package lbpool

import (
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
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/limpetlb/limpet/internal/testwait"
)

// address returns the address of a test server's URL.
func address(server *httptest.Server) netip.AddrPort {
	return server.Listener.Addr().(*net.TCPAddr).AddrPort()
}

// refusing returns an address on which nothing listens.
func refusing(t testing.TB) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).AddrPort()
}

// listen accepts connections and gives each to serve, until the test ends.
func listen(t testing.TB, serve func(conn *net.TCPConn)) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn.(*net.TCPConn))
			}()
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		<-done
	})
	return ln.Addr().(*net.TCPAddr).AddrPort()
}

func wantCheck(t *testing.T, c Checker, server netip.AddrPort, timeout time.Duration, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	err := c.Check(ctx, server)
	got := "ok"
	if err != nil {
		var fault *CheckError
		if !errors.As(err, &fault) {
			t.Fatalf("Check = %v, want a CheckError", err)
		}
		got = fault.Reason
	}
	if got != want {
		t.Errorf("Check = %s (%v), want %s", got, err, want)
	}
}

func TestHTTPChecker(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/":
			fmt.Fprintf(w, "%s %s %s %s %s", r.Method, r.URL.RequestURI(), r.Host, r.Header["User-Agent"], r.Header["X"])
		case "/redirect":
			http.Redirect(w, r, "/", http.StatusFound)
		case "/teapot":
			w.WriteHeader(http.StatusTeapot)
		case "/far":
			io.WriteString(w, strings.Repeat(".", 2<<10-1)+"keyword")
		case "/near":
			io.WriteString(w, strings.Repeat(".", 2<<10-7)+"keyword")
		case "/endless":
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 32<<10)); err != nil {
					return
				}
			}
		case "/short":
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "short")
		case "/hang":
			<-r.Context().Done()
		case "/hangbody":
			io.WriteString(w, "begin")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		case "/bigheader":
			for i := range 100 {
				w.Header().Set(fmt.Sprintf("X-%d", i), strings.Repeat("v", 1000))
			}
		case "/reset":
			panic(http.ErrAbortHandler)
		}
	}))
	defer server.Close()
	at := address(server).String()
	tests := []struct {
		name    string
		checker *HTTPChecker
		want    string
	}{
		{"zero value", &HTTPChecker{}, "ok"},
		{"what is sent", &HTTPChecker{Keyword: "GET / " + at + " [limpet-health-monitor] []"}, "ok"},
		{"what is configured", &HTTPChecker{
			Method: "POST", Path: "/?a=b", Host: "app.example", Header: http.Header{"X": {"1", "2"}, "User-Agent": {"me"}},
			Keyword: "POST /?a=b app.example [me] [1 2]",
		}, "ok"},
		{"keyword missing", &HTTPChecker{Keyword: "nonsense"}, "payload mismatch"},
		{"keyword near", &HTTPChecker{Path: "/near", Keyword: "keyword"}, "ok"},
		{"keyword too far", &HTTPChecker{Path: "/far", Keyword: "keyword"}, "payload mismatch"},
		{"redirect", &HTTPChecker{Path: "/redirect"}, "status mismatch"},
		{"redirect accepted", &HTTPChecker{Path: "/redirect", Accept: []StatusRange{{302, 302}}}, "ok"},
		{"status", &HTTPChecker{Path: "/teapot"}, "status mismatch"},
		{"status accepted", &HTTPChecker{Path: "/teapot", Accept: []StatusRange{{200, 200}, {400, 499}}}, "ok"},
		{"2xx not accepted", &HTTPChecker{Accept: []StatusRange{{400, 499}}}, "status mismatch"},
		{"endless body", &HTTPChecker{Path: "/endless"}, "ok"},
		{"short body", &HTTPChecker{Path: "/short"}, "no response"},
		{"no answer", &HTTPChecker{Path: "/hang"}, "no response"},
		{"no end", &HTTPChecker{Path: "/hangbody"}, "no response"},
		{"huge header", &HTTPChecker{Path: "/bigheader"}, "other"},
		{"closed", &HTTPChecker{Path: "/reset"}, "no response"},
		{"invalid", &HTTPChecker{Path: "relative"}, "other"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			timeout := 5 * time.Second
			if strings.HasPrefix(test.checker.Path, "/hang") {
				timeout = 50 * time.Millisecond
			}
			wantCheck(t, test.checker, address(server), timeout, test.want)
		})
	}
	t.Run("refused", func(t *testing.T) {
		wantCheck(t, &HTTPChecker{}, refusing(t), time.Second, "connection refused")
	})
	t.Run("junk", func(t *testing.T) {
		junk := listen(t, func(conn *net.TCPConn) { io.WriteString(conn, "SSH-2.0-OpenSSH\r\n\r\n") })
		wantCheck(t, &HTTPChecker{}, junk, time.Second, "other")
	})
}

func TestHTTPCheckerTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	plain := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer plain.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	wantCheck(t, &HTTPChecker{TLS: &tls.Config{RootCAs: roots}}, address(server), 5*time.Second, "ok")
	wantCheck(t, &HTTPChecker{TLS: &tls.Config{}}, address(server), 5*time.Second, "certificate error")
	wantCheck(t, &HTTPChecker{TLS: &tls.Config{}}, address(plain), 5*time.Second, "tls error")
}

func TestTCPChecker(t *testing.T) {
	echo := listen(t, func(conn *net.TCPConn) { io.Copy(conn, conn) })
	slices := listen(t, func(conn *net.TCPConn) { // one byte at a time, and then the end
		for _, b := range []byte("220 ready") {
			conn.Write([]byte{b})
		}
	})
	long := listen(t, func(conn *net.TCPConn) {
		conn.Write([]byte(strings.Repeat(".", 2<<10) + "x"))
		io.Copy(io.Discard, conn)
	})
	silent := listen(t, func(conn *net.TCPConn) { io.Copy(io.Discard, conn) })
	closing := listen(t, func(*net.TCPConn) {})
	resetting := listen(t, func(conn *net.TCPConn) {
		conn.Read(make([]byte, 1))
		conn.SetLinger(0)
	})
	tests := []struct {
		name    string
		checker TCPChecker
		server  netip.AddrPort
		want    string
	}{
		{"connect", TCPChecker{}, silent, "ok"},
		{"refused", TCPChecker{}, refusing(t), "connection refused"},
		{"send", TCPChecker{Send: "PING"}, silent, "ok"},
		{"send and expect", TCPChecker{Send: "PING\r\n", Expect: "ING"}, echo, "ok"},
		{"banner", TCPChecker{Expect: "220 "}, slices, "ok"},
		{"wrong banner", TCPChecker{Expect: "221 "}, slices, "payload mismatch"},
		{"too long", TCPChecker{Expect: "x"}, long, "payload mismatch"},
		{"silent", TCPChecker{Expect: "x"}, silent, "no response"},
		{"closing", TCPChecker{Expect: "x"}, closing, "no response"},
		{"resetting", TCPChecker{Send: "PING", Expect: "x"}, resetting, "connection reset"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			timeout := 5 * time.Second
			if test.name == "silent" {
				timeout = 50 * time.Millisecond
			}
			wantCheck(t, &test.checker, test.server, timeout, test.want)
		})
	}
}

func TestNetworkCheckError(t *testing.T) {
	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	tests := []struct {
		err  error
		want string
	}{
		{dial(syscall.ECONNREFUSED), checkConnectionRefused},
		{dial(context.DeadlineExceeded), checkConnectionTimeout},
		{context.DeadlineExceeded, checkNoResponse},
		{dial(syscall.EHOSTUNREACH), checkUnreachable},
		{dial(syscall.ENETUNREACH), checkUnreachable},
		{dial(syscall.EMFILE), CheckNoResources},
		{dial(syscall.EADDRNOTAVAIL), CheckNoResources},
		{syscall.EPIPE, checkConnectionReset},
		{io.ErrUnexpectedEOF, checkNoResponse},
		{tls.AlertError(40), checkTLS},
		{x509.CertificateInvalidError{}, checkCertificate},
		{errors.New("?"), checkOther},
	}
	for _, test := range tests {
		got := networkCheckError(fmt.Errorf("x: %w", test.err))
		if got.Reason != test.want || !errors.Is(got, test.err) && test.want != checkCertificate {
			t.Errorf("%v: %v, want %s", test.err, got, test.want)
		}
	}
	text := (&CheckError{Reason: checkTLS, Detail: "d", Err: io.EOF}).Error()
	if text != "tls error: d: EOF" {
		t.Errorf("Error = %q", text)
	}
}

// TestMonitorWithRealServers runs both checkers against servers that come and
// go.
func TestMonitorWithRealServers(t *testing.T) {
	healthy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "OK") }))
	defer healthy.Close()
	sick := httptest.NewServer(http.NotFoundHandler())
	defer sick.Close()
	p := mustPool(t, Config{
		Servers: []ServerConfig{{Address: address(healthy).String()}, {Address: address(sick).String()}, {Address: refusing(t).String()}},
		HealthMonitors: []HealthMonitor{
			{Name: "http", Checker: &HTTPChecker{Keyword: "OK"}, Interval: 20 * time.Millisecond},
			{Name: "tcp", Checker: &TCPChecker{}, Interval: 20 * time.Millisecond},
		},
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	testwait.Until(t, "the healthy server to be up", func() bool { return states(p) == "up down down" })
	healthy.Close()
	testwait.Until(t, "the closed server to be down", func() bool { return states(p) == "down down down" })
	var fault *CheckError
	if c := p.Servers()[0].LastChange(); !errors.As(c.Err, &fault) {
		t.Errorf("LastChange = %+v, want a CheckError", c)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Run = %v", err)
	}
}
