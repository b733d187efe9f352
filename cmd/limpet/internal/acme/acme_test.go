package acme

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/limpetlb/limpet/cmd/limpet/internal/testacme"
	"github.com/limpetlb/limpet/config"
	"github.com/limpetlb/limpet/internal/testcerts"
	"github.com/limpetlb/limpet/internal/testfiles"
	"github.com/limpetlb/limpet/internal/testwait"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// They end by themselves, or with the process.
		goleak.IgnoreAnyFunction("github.com/letsencrypt/pebble/v2/va.VAImpl.processTasks"),
		goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.keepLockfileFresh"),
	)
}

// shortSecond makes the pauses between orders short.
const shortSecond = time.Millisecond

// A site is a runtime that serves a configuration with an Issuer.
type site struct {
	*testing.T
	*config.Runtime
	issuer *Issuer
	dir    string
	log    *logged
	stop   func()
}

// logged has the lines of a log.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// lines are those with a text.
func (l *logged) lines(text string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

const (
	// both has a listener without TLS and one with it.
	both = `listeners:
  - {name: plain, address: "127.0.0.1:0"}
  - {name: secure, address: "127.0.0.1:0", tls: {acme: test}}
process: {startWait: 0s}
services:
  - name: shop
    hosts: [a.example.com]
    httpSecurity: [{name: all, action: {respond: {status: 418}}}]
`
	secure = `listeners: [{name: secure, address: "127.0.0.1:0", tls: {acme: test, names: [a.example.com]}}]
process: {startWait: 0s}
httpSecurity: [{name: all, action: {respond: {status: 418}}}]
`
)

// entry is one of acme, for an authority, with more in it.
func entry(a *testacme.Authority, more string) string {
	return fmt.Sprintf("acme: [{name: test, directory: %q, ca: ca.pem, email: admin@example.com, agree: true, storage: state%s}]\n", a.URL, more)
}

// open makes a runtime of a configuration in a directory, which serves.
func open(t *testing.T, dir, text string) *site {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "limpet.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := config.Load(t.Context(), filepath.Join(dir, "limpet.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	s := &site{T: t, dir: dir, log: &logged{}, issuer: New(filepath.Join(dir, "default"))}
	s.issuer.second, s.issuer.nap = shortSecond, 20*shortSecond
	if s.Runtime, err = f.Build(config.Options{Issuer: s.issuer, Logger: slog.New(slog.NewTextHandler(s.log, nil))}); err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { _ = s.Runtime.Run(ctx) })
	ready := make(chan struct{})
	all.Go(func() {
		if err := s.Serve(func() { close(ready) }); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	s.stop = sync.OnceFunc(func() {
		_ = s.Shutdown(context.Background()) // nothing is under way
		end()
		all.Wait()
	})
	t.Cleanup(s.stop)
	testwait.Receive(t, ready, "start")
	return s
}

// at is the address of a listener.
func (s *site) at(name string) net.Addr {
	for _, l := range s.Listeners() {
		if l.Name == name {
			return l.Addr()
		}
	}
	s.Fatalf("no listener %s", name)
	return nil
}

// port is that of a listener; 0 if there is none.
func (s *site) port(name string) int {
	for _, l := range s.Listeners() {
		if l.Name == name {
			return testacme.Port(l.Addr())
		}
	}
	return 0
}

// shake makes a handshake as a client that asks for a name, and trusts an
// authority; nil trusts all.
func (s *site) shake(a *testacme.Authority, name string) (*tls.ConnectionState, error) {
	c := &tls.Config{ServerName: name}
	if a != nil {
		c.RootCAs = a.Roots()
	} else {
		c.InsecureSkipVerify = true
	}
	conn, err := (&tls.Dialer{Config: c}).DialContext(s.Context(), "tcp", s.at("secure").String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	state := conn.(*tls.Conn).ConnectionState()
	return &state, nil
}

// awaitCertificate waits until clients get a certificate for a name that is
// good.
func (s *site) awaitCertificate(a *testacme.Authority, name string) *tls.ConnectionState {
	s.Helper()
	var state *tls.ConnectionState
	var err error
	defer func() {
		if s.Failed() {
			s.Logf("%v\n%s", err, strings.Join(s.log.lines(""), ""))
		}
	}()
	testwait.Until(s.T, "a certificate for "+name, func() bool {
		state, err = s.shake(a, name)
		return err == nil
	})
	return state
}

// renew makes the certificate of a name due, as time does.
func (s *site) renew(text string) {
	s.Helper()
	n := (*s.issuer.names.Load())[key{"test", text}]
	next := *n.cert.Load()
	next.renewal.SelectedTime = time.Now()
	next.data.RenewalInfo = &next.renewal
	if err := n.of.describe(s.Context(), text, &next); err != nil {
		s.Fatal(err)
	}
	n.cert.Store(&next)
}

// await waits for a line in the log.
func (s *site) await(text string) string {
	s.Helper()
	testwait.Until(s.T, "a line with "+text, func() bool { return s.log.lines(text) != nil })
	return s.log.lines(text)[0]
}

// get asks for a path at the listener without TLS.
func (s *site) get(host, path string) (status int, body string) {
	s.Helper()
	r, err := http.NewRequestWithContext(s.Context(), http.MethodGet, "http://"+s.at("plain").String()+path, nil)
	if err != nil {
		s.Fatal(err)
	}
	r.Host = host
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
	if err != nil {
		s.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		s.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// files are a directory with what configurations name.
func files(t *testing.T, a *testacme.Authority) string {
	t.Helper()
	return testfiles.Write(t, map[string]string{"ca.pem": a.PEM})
}

// A certificate is issued by each challenge, and by the one that works if only
// one does. Handshakes fail until then, for its name only, and the challenges
// come before rules that refuse everything.
func TestIssue(t *testing.T) {
	for name, c := range map[string]struct {
		more  string
		ports func(s *site) (http, tls int)
	}{
		"TLS-ALPN-01":      {", challenges: [tls-alpn-01]", func(s *site) (int, int) { return 0, s.port("secure") }},
		"HTTP-01":          {", challenges: [http-01], keyType: rsa2048", func(s *site) (int, int) { return s.port("plain"), 0 }},
		"only one is good": {"", func(s *site) (int, int) { return 0, s.port("secure") }},
	} {
		t.Run(name, func(t *testing.T) {
			a := testacme.New(t, testacme.Options{})
			dir := files(t, a)
			file := testcerts.NewAuthority(t, "files").Issue(t, nil, "file.example.com")
			for name, text := range map[string]string{"file.crt": file.PEM(), "file.key": file.KeyPEM(t)} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			s := open(t, dir, entry(a, c.more)+strings.Replace(both, "{acme: test}", "{acme: test, certificates: [{certificate: file.crt, key: file.key}]}", 1))
			if _, err := s.shake(nil, "a.example.com"); err == nil || !strings.Contains(err.Error(), "unrecognized name") {
				t.Errorf("before: %v", err)
			}
			if _, err := s.shake(nil, "file.example.com"); err != nil {
				t.Error(err)
			}
			a.Start(c.ports(s))
			state := s.awaitCertificate(a, "a.example.com")
			if got := state.PeerCertificates[0].PublicKeyAlgorithm.String(); strings.Contains(c.more, "rsa") != (got == "RSA") {
				t.Error(got)
			}
			if line := s.await("certificate issued"); !strings.Contains(line, "name=a.example.com authority=test expires=") {
				t.Error(line)
			}
			if status, _ := s.get("a.example.com", challengePath+"x"); status != http.StatusTeapot {
				t.Errorf("a path that nobody has asked for: %d", status)
			}
		})
	}
}

// An address gets a certificate, too, and clients get it although they do not
// send the address.
func TestAddress(t *testing.T) {
	a := testacme.New(t, testacme.Options{})
	s := open(t, files(t, a), entry(a, "")+strings.Replace(secure, "a.example.com", "127.0.0.1", 1))
	a.Start(0, s.port("secure"))
	if state := s.awaitCertificate(a, "127.0.0.1"); !state.PeerCertificates[0].IPAddresses[0].Equal(net.IPv4(127, 0, 0, 1)) {
		t.Error(state.PeerCertificates[0].IPAddresses)
	}
}

// Renewals fail no handshake, and each shows a certificate that is valid.
func TestRenewUnderLoad(t *testing.T) {
	a := testacme.New(t, testacme.Options{})
	s := open(t, files(t, a), entry(a, "")+secure)
	a.Start(0, s.port("secure"))
	s.awaitCertificate(a, "a.example.com")
	stop := make(chan struct{})
	var clients sync.WaitGroup
	seen := make([]map[string]bool, 3)
	count := make([]int, len(seen))
	for i := range seen {
		seen[i] = map[string]bool{}
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				state, err := s.shake(a, "a.example.com")
				if err != nil {
					t.Errorf("handshake: %v", err)
					return
				}
				seen[i][state.PeerCertificates[0].SerialNumber.String()] = true
				count[i]++
			}
		})
	}
	for i := range 2 {
		s.renew("a.example.com")
		testwait.Until(t, "a renewal", func() bool { return len(s.log.lines("certificate renewed")) > i || t.Failed() })
	}
	close(stop)
	clients.Wait()
	total := 0
	for i := range seen {
		if total += count[i]; len(seen[i]) < 2 {
			t.Errorf("%d certificates", len(seen[i]))
		}
	}
	t.Logf("%d handshakes", total)
}

// A start without the authority serves the rest, and gets certificates when the
// authority is back. One that is down for a renewal does not harm the
// certificate in force.
func TestDown(t *testing.T) {
	a := testacme.New(t, testacme.Options{})
	s := open(t, files(t, a), entry(a, "")+both)
	a.SetDown(true)
	a.Start(s.port("plain"), s.port("secure"))
	line := s.await("certificate not issued")
	if !strings.Contains(line, "level=ERROR") || !strings.Contains(line, "name=a.example.com authority=test error=") || !strings.Contains(line, " retry=") {
		t.Error(line)
	}
	if status, _ := s.get("a.example.com", "/"); status != http.StatusTeapot {
		t.Errorf("meanwhile: %d", status)
	}
	a.SetDown(false)
	first := s.awaitCertificate(a, "a.example.com")
	a.SetDown(true)
	s.renew("a.example.com")
	if line := s.await("certificate not renewed"); !strings.Contains(line, "level=WARN") || !strings.Contains(line, "expires=") {
		t.Error(line)
	}
	if state, err := s.shake(a, "a.example.com"); err != nil || !state.PeerCertificates[0].Equal(first.PeerCertificates[0]) {
		t.Errorf("while the authority is down: %v", err)
	}
	a.SetDown(false)
	s.await("certificate renewed")
	s.awaitCertificate(a, "a.example.com")
}

// An authority that demands a binding gets it; without the right key, it says
// so, and nothing that is logged shows the key.
func TestExternalAccount(t *testing.T) {
	const good, bad = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W", "AAAAZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
	a := testacme.New(t, testacme.Options{EAB: map[string]string{"kid-1": good}})
	dir := files(t, a)
	s := open(t, dir, entry(a, ", eab: {id: kid-1, key: "+bad+"}")+secure)
	a.Start(0, s.port("secure"))
	if line := s.await("certificate not issued"); !strings.Contains(line, "account") {
		t.Error(line)
	}
	for name, text := range map[string]string{"limpet.yaml": entry(a, ", eab: {id: kid-1, key: {file: key}}") + secure, "key": good + "==\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if !s.Reload(t.Context()) {
		t.Fatal(s.log.lines("ERROR"))
	}
	s.awaitCertificate(a, "a.example.com")
	for _, key := range []string{good, bad} {
		if lines := s.log.lines(key[:16]); lines != nil {
			t.Error(lines)
		}
	}
}

// After a restart, the certificate of the storage is in force at once, without
// the authority.
func TestRestart(t *testing.T) {
	a := testacme.New(t, testacme.Options{})
	dir := files(t, a)
	s := open(t, dir, entry(a, "")+both)
	a.Start(s.port("plain"), s.port("secure"))
	first := s.awaitCertificate(a, "a.example.com")
	s.await("certificate issued")
	s.stop()
	there := strings.NewReplacer( // where the authority asks
		`plain, address: "127.0.0.1:0"`, fmt.Sprintf("plain, address: %q", s.at("plain")),
		`secure, address: "127.0.0.1:0"`, fmt.Sprintf("secure, address: %q", s.at("secure")),
	).Replace(both)
	a.SetDown(true)
	s = open(t, dir, entry(a, "")+both)
	state, err := s.shake(a, "a.example.com")
	if err != nil || !state.PeerCertificates[0].Equal(first.PeerCertificates[0]) {
		t.Errorf("after the restart: %v", err)
	}
	if a.Orders() != 1 || a.Accounts() != 1 {
		t.Errorf("%d orders, %d accounts", a.Orders(), a.Accounts())
	}

	// A certificate that was damaged is ordered anew, with the same account.
	s.stop()
	a.SetDown(false)
	damaged, err := filepath.Glob(filepath.Join(dir, "state", "certificates", "*", "a.example.com", "*.key"))
	if err != nil || len(damaged) != 1 {
		t.Fatal(damaged, err)
	}
	if err := os.WriteFile(damaged[0], []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	next := open(t, dir, entry(a, "")+there)
	next.await("stored certificate cannot be used")
	next.awaitCertificate(a, "a.example.com")
	if a.Orders() != 2 || a.Accounts() != 1 {
		t.Errorf("%d orders, %d accounts", a.Orders(), a.Accounts())
	}
}

// Of two processes with one storage, one orders, and both use the certificate.
func TestTwoProcesses(t *testing.T) {
	a := testacme.New(t, testacme.Options{})
	dir := files(t, a)
	one, two := open(t, dir, entry(a, "")+secure), open(t, dir, entry(a, "")+secure)
	a.Start(0, one.port("secure"))
	first := one.awaitCertificate(a, "a.example.com")
	if other := two.awaitCertificate(a, "a.example.com"); !other.PeerCertificates[0].Equal(first.PeerCertificates[0]) || a.Orders() != 1 {
		t.Errorf("%d orders", a.Orders())
	}
}

// The process that an authority asks need not be the one that orders, such as
// while one takes the place of the other.
func TestOtherProcessAnswers(t *testing.T) {
	for _, kind := range []string{"tls-alpn-01", "http-01"} {
		t.Run(kind, func(t *testing.T) {
			a := testacme.New(t, testacme.Options{})
			wanted := []config.ACME{{
				Name: "test", Directory: a.URL, CA: []byte(a.PEM), Storage: t.TempDir(), KeyType: "p256",
				Challenges: []string{kind}, Names: []string{"a.example.com"},
			}}
			asked, orders := New(""), New("")
			asked.Manage(wanted, slog.New(slog.DiscardHandler)) // and does not run
			orders.Manage(wanted, slog.New(slog.DiscardHandler))
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !asked.HTTPChallenge(w, r) {
					t.Errorf("no answer to %s%s", r.Host, r.URL)
				}
			}))
			defer server.Close()
			ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{NextProtos: []string{"acme-tls/1"}, GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
				return asked.TLSChallenge(hello.ServerName), nil
			}})
			if err != nil {
				t.Fatal(err)
			}
			var all sync.WaitGroup
			defer all.Wait()
			defer ln.Close()
			all.Go(func() {
				for {
					conn, err := ln.Accept()
					if err != nil {
						return
					}
					_ = conn.(*tls.Conn).Handshake() // the authority says what is wrong
					conn.Close()
				}
			})
			a.Start(testacme.Port(server.Listener.Addr()), testacme.Port(ln.Addr()))
			ctx, end := context.WithCancel(t.Context())
			defer end()
			all.Go(func() { _ = orders.Run(ctx) })
			testwait.Until(t, "a certificate", func() bool { return orders.Certificate("test", "a.example.com") != nil })
			if a.Orders() != 1 {
				t.Errorf("%d orders", a.Orders())
			}
			end()
		})
	}
}

// Reloads add and remove names, and change the authority. Open connections are
// not touched, and a name has its certificate until it has one from elsewhere.
func TestReload(t *testing.T) {
	a := testacme.New(t, testacme.Options{})
	dir := files(t, a)
	s := open(t, dir, entry(a, "")+both)
	a.Start(s.port("plain"), s.port("secure"))
	first := s.awaitCertificate(a, "a.example.com")
	conn, err := tls.Dial("tcp", s.at("secure").String(), &tls.Config{ServerName: "a.example.com", RootCAs: a.Roots()})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	reload := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "limpet.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if !s.Reload(t.Context()) {
			t.Fatal(s.log.lines("ERROR"))
		}
	}
	reload(entry(a, "") + strings.Replace(both, "[a.example.com]", "[a.example.com, b.example.com]", 1))
	s.awaitCertificate(a, "b.example.com")
	if state, err := s.shake(a, "a.example.com"); err != nil || !state.PeerCertificates[0].Equal(first.PeerCertificates[0]) {
		t.Errorf("another certificate for the name that stays: %v", err)
	}

	other := testacme.New(t, testacme.Options{})
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), []byte(other.PEM), 0o600); err != nil {
		t.Fatal(err)
	}
	reload(entry(other, "") + both)
	if state, err := s.shake(a, "a.example.com"); err != nil || !state.PeerCertificates[0].Equal(first.PeerCertificates[0]) {
		t.Errorf("before there is one of the other authority: %v", err)
	}
	if _, err := s.shake(nil, "b.example.com"); err != nil && !strings.Contains(err.Error(), "unrecognized name") {
		t.Errorf("a name that was removed: %v", err)
	} else if err == nil {
		state, _ := s.shake(nil, "b.example.com")
		if err := state.PeerCertificates[0].VerifyHostname("b.example.com"); err == nil {
			t.Error("a name that was removed has its certificate")
		}
	}
	other.Start(s.port("plain"), s.port("secure"))
	s.awaitCertificate(other, "a.example.com")
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n"); err != nil {
		t.Error(err)
	}
	answer := make([]byte, len("HTTP/1.1 418"))
	if _, err := io.ReadFull(conn, answer); err != nil || string(answer) != "HTTP/1.1 418" {
		t.Errorf("on the old connection: %q, %v", answer, err)
	}
}
