// Package testacme has an authority for tests that issues certificates by ACME:
// pebble, in the process of the test.
package testacme

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"

	"github.com/limpetlb/limpet/internal/testcerts"
)

// Options are those of an Authority.
type Options struct {
	// EAB has the keys of external accounts, in base64, by their identifiers.
	// Not nil means that an account needs one.
	EAB map[string]string
}

// An Authority issues certificates once it is told where names are.
type Authority struct {
	// URL is that of the directory.
	URL string
	// PEM vouches for the server of URL.
	PEM string

	t        testing.TB
	o        Options
	listener net.Listener
	issuer   *ca.CAImpl
	server   *httptest.Server
	names    net.Addr
	down     atomic.Bool
	counts   [2]atomic.Int64
}

// lifetime is that of certificates.
const lifetime = 24 * time.Hour

// These are the paths of pebble.
const (
	directoryPath = "/dir"
	accountPath   = "/sign-me-up"
	orderPath     = "/order-plz"
)

// New returns an authority. Its clients wait until Start. It changes the
// environment, so tests with one cannot be parallel.
func New(t testing.TB, o Options) *Authority {
	t.Helper()
	for name, value := range map[string]string{"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0", "PEBBLE_AUTHZREUSE": "0"} {
		t.Setenv(name, value)
	}
	root := testcerts.NewAuthority(t, "directory")
	cert := root.Issue(t, func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)} }).TLS()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := &Authority{URL: "https://" + ln.Addr().String() + directoryPath, PEM: root.PEM(), t: t, o: o, listener: ln}
	a.server = &httptest.Server{Listener: ln, Config: &http.Server{ErrorLog: log.New(io.Discard, "", 0)}, TLS: &tls.Config{Certificates: []tls.Certificate{cert}}}
	a.names = serveNames(t)
	t.Cleanup(func() { _ = ln.Close() })
	return a
}

// Start begins to answer. All names are at 127.0.0.1; the authority asks at
// these ports by HTTP-01 and TLS-ALPN-01, where 0 means that nobody answers.
func (a *Authority) Start(httpPort, tlsPort int) {
	a.t.Helper()
	quiet := log.New(io.Discard, "", 0)
	store := db.NewMemoryStore()
	for id, key := range a.o.EAB {
		if err := store.AddExternalAccountKeyByID(id, key); err != nil {
			a.t.Fatal(err)
		}
	}
	a.issuer = ca.New(quiet, store, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {ValidityPeriod: uint64(lifetime / time.Second)}})
	checker := va.New(quiet, max(httpPort, 1), max(tlsPort, 1), false, a.names.String(), store) // nobody listens at port 1
	front := wfe.New(quiet, store, checker, a.issuer, []string{"example.com"}, false, a.o.EAB != nil, 1, 1)
	handler := front.Handler()
	a.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a.down.Load() {
			panic(http.ErrAbortHandler)
		}
		if r.Method == http.MethodPost {
			for i, path := range []string{accountPath, orderPath} {
				if r.URL.Path == path {
					a.counts[i].Add(1)
				}
			}
		}
		handler.ServeHTTP(w, r)
	})
	a.server.StartTLS()
	a.t.Cleanup(a.server.Close)
}

// SetDown ends all connections without an answer from now on, or answers again.
func (a *Authority) SetDown(down bool) { a.down.Store(down) }

// Accounts returns how often an account was asked for.
func (a *Authority) Accounts() int { return int(a.counts[0].Load()) }

// Orders returns how often a certificate was ordered.
func (a *Authority) Orders() int { return int(a.counts[1].Load()) }

// Roots returns a pool that vouches for the certificates.
func (a *Authority) Roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.issuer.GetRootCert(0).Cert)
	return pool
}

// Port returns the port of an address.
func Port(addr net.Addr) int { return addr.(*net.TCPAddr).Port }

// serveNames serves DNS for all names.
func serveNames(t testing.TB) net.Addr {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{Listener: ln, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		answer := new(dns.Msg).SetReply(q)
		if q.Question[0].Qtype == dns.TypeA && !strings.HasPrefix(q.Question[0].Name, "_") {
			answer.Answer = []dns.RR{&dns.A{
				Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}, A: net.IPv4(127, 0, 0, 1),
			}}
		}
		_ = w.WriteMsg(answer) // the authority has left otherwise
	})}
	ready, ended := make(chan struct{}), make(chan struct{})
	server.NotifyStartedFunc = func() { close(ready) }
	go func() {
		defer close(ended)
		_ = server.ActivateAndServe() // ends with Shutdown
	}()
	<-ready
	t.Cleanup(func() {
		_ = server.Shutdown() // it has started
		<-ended
	})
	return ln.Addr()
}
