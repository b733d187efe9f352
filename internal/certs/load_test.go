package certs

import (
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"log/slog"
	"math/big"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/limpetlb/limpet/internal/testcerts"
	"github.com/limpetlb/limpet/internal/testfiles"
	"github.com/limpetlb/limpet/internal/testrace"
)

var full = flag.Bool("full", false, "run TestExchangeUnderLoad with 100,000 handshakes in place of 4,000")

// Certificates are exchanged while clients connect: no handshake fails, and
// each shows a certificate that was in force at its time.
func TestExchangeUnderLoad(t *testing.T) {
	exchanges, handshakes := 200, 4_000
	switch {
	case *full:
		handshakes = 100_000
	case testing.Short():
		exchanges, handshakes = 15, 200
	case testrace.Enabled:
		exchanges, handshakes = 40, 800
	}
	a := testcerts.NewAuthority(t, "test")
	// Serial numbers are those of the exchanges.
	version := func(n int64) map[string]string {
		files := map[string]string{}
		numbered := func(c *x509.Certificate) { c.SerialNumber = big.NewInt(n) }
		put(t, files, "ec", a.Issue(t, numbered, "a.example.com"))
		put(t, files, "rsa", a.IssueRSA(t, numbered, "a.example.com"))
		return files
	}
	dir := testfiles.Write(t, version(1))
	cfg := config(dir, "ec", "rsa")
	cfg.Watch = true
	store := NewStore(loaded(t, cfg))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	server := store.Server(never)
	all.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer conn.Close()
				if _, err := tls.Server(conn, server).Write([]byte("x")); err != nil {
					t.Error(err)
				}
			})
		}
	})

	// begun is the newest version of which a file has been written, done the
	// newest that must be in force.
	var begun, done, finished, resumed atomic.Int64
	begun.Store(1)
	done.Store(1)
	const clients = 8
	kinds := []*tls.Config{{}, {MaxVersion: tls.VersionTLS12}, {MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}}}
	var shaking sync.WaitGroup
	for i := range clients {
		shaking.Go(func() {
			client := kinds[i%len(kinds)].Clone()
			client.ServerName, client.RootCAs = "a.example.com", a.Pool()
			fresh := client.Clone()
			client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			for finished.Add(1) <= int64(handshakes) {
				least, cfg := done.Load(), client
				if rand.IntN(2) == 0 {
					cfg = fresh // no session to resume
				}
				conn, err := tls.Dial("tcp", ln.Addr().String(), cfg)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := conn.Read(make([]byte, 1)); err != nil {
					t.Error(err)
				}
				state := conn.ConnectionState()
				conn.Close()
				if state.DidResume {
					resumed.Add(1)
					continue // it shows the certificate of the first handshake
				}
				if n := state.PeerCertificates[0].SerialNumber.Int64(); n < least || n > begun.Load() {
					t.Errorf("the certificate of exchange %d, not of %d to %d", n, least, begun.Load())
				}
			}
		})
	}
	discard := slog.New(slog.DiscardHandler)
	made := 1
	for made < exchanges {
		next := int64(made + 1)
		begun.Store(next)
		files := version(next)
		// In any order, and with looks between them.
		names := []string{"ec.crt", "ec.key", "rsa.crt", "rsa.key"}
		rand.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		for _, name := range names {
			if err := os.WriteFile(filepath.Join(dir, ".next"), []byte(files[name]), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(filepath.Join(dir, ".next"), filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
			if rand.IntN(2) == 0 {
				store.Look(discard)
			}
		}
		store.Look(discard)
		store.Look(discard)
		done.Store(next)
		made++
		// As many handshakes with each version.
		for want := int64(made) * int64(handshakes) / int64(exchanges); finished.Load() < want; {
			store.Look(discard)
		}
	}
	shaking.Wait()
	ln.Close()
	all.Wait()
	t.Logf("%d exchanges, %d handshakes, %d of them resumed", made, handshakes, resumed.Load())
	if resumed.Load() < int64(handshakes)/5 {
		t.Errorf("only %d of %d sessions were resumed", resumed.Load(), handshakes)
	}
}

// Another implementation of TLS gets the same.
func TestOpenSSL(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Fatal(err)
	}
	servers, ours := testcerts.NewAuthority(t, "servers"), testcerts.NewAuthority(t, "ours")
	files := map[string]string{"ca": ours.PEM(), "roots": servers.PEM()}
	put(t, files, "ec", servers.Issue(t, nil, "a.example.com"))
	put(t, files, "rsa", servers.IssueRSA(t, nil, "a.example.com"))
	put(t, files, "wild", servers.Issue(t, nil, "*.example.com"))
	good, revoked := ours.Issue(t, nil), ours.Issue(t, nil)
	put(t, files, "good", good)
	put(t, files, "revoked", revoked)
	files["crl"] = ours.Revoke(t, good.Leaf.NotAfter, nil, revoked)
	dir := testfiles.Write(t, files)
	at := func(name string) string { return filepath.Join(dir, name) }
	cfg := config(dir, "ec", "rsa", "wild")
	cfg.StrictSNI = true
	cfg.Clients = &Clients{CA: []string{at("ca")}, CRL: []string{at("crl")}, Optional: true}
	store := NewStore(loaded(t, cfg))
	ln, err := tls.Listen("tcp", "127.0.0.1:0", store.Server(func(name string) bool { return name == "strict.example.com" }))
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
			all.Go(func() {
				defer conn.Close()
				_, _ = conn.Write([]byte("hello\n")) // some handshakes must fail
			})
		}
	})
	connect := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "openssl", append([]string{"s_client", "-connect", ln.Addr().String(), "-CAfile", at("roots"), "-ign_eof"}, args...)...)
		out, _ := cmd.CombinedOutput() // its status says little
		return string(out)
	}
	has := func(out string, want ...string) {
		t.Helper()
		for _, w := range want {
			if !regexp.MustCompile(w).MatchString(out) {
				t.Errorf("no %q in %s", w, out)
			}
		}
	}
	client := func(name string) []string { return []string{"-cert", at(name + ".crt"), "-key", at(name + ".key")} }
	const verified = `Verify return code: 0 \(ok\)`
	has(connect("-servername", "a.example.com", "-alpn", "h2,http/1.1"), "TLSv1.3", "ALPN protocol: h2", `Peer signature type: ECDSA`, verified, "hello")
	has(connect("-servername", "a.example.com", "-tls1_2"), "TLSv1.2", `Peer signature type: ECDSA`, verified, "hello")
	has(connect("-servername", "a.example.com", "-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"), `Peer signature type: RSA`, verified, "hello")
	has(connect("-servername", "a.example.com", "-sigalgs", "RSA-PSS+SHA256"), "TLSv1.3", `Peer signature type: RSA-PSS`, verified, "hello")
	has(connect("-servername", "b.example.com"), "TLSv1.3", verified, "hello")
	has(connect("-servername", "a.example.org"), "unrecognized name|unrecognized_name")
	has(connect("-noservername"), "unrecognized name|unrecognized_name")
	has(connect("-servername", "a.example.com", "-tls1_1"), "alert protocol version|no protocols available")
	has(connect(slices.Concat([]string{"-servername", "strict.example.com"}, client("good"))...), "hello")
	has(connect("-servername", "strict.example.com"), "alert (certificate required|bad certificate)|certificate_required")
	has(connect(slices.Concat([]string{"-servername", "a.example.com"}, client("revoked"))...), "alert bad certificate|bad_certificate")
	for _, version := range []string{"-tls1_2", "-tls1_3"} {
		session := at("session" + version)
		out := connect("-servername", "a.example.com", version, "-sess_out", session)
		has(out, "hello")
		if again := connect("-servername", "a.example.com", version, "-sess_in", session); !strings.Contains(again, "Reused, TLSv1."+version[len("-tls1_"):]) {
			t.Errorf("%s: not resumed: %s", version, again)
		}
	}
}

// A store with as many certificates as there may be follows changes.
func TestManyFiles(t *testing.T) {
	n := 1_000 // 2,000 files, of which a set does not look at each every time
	if testing.Short() {
		n = 200
	}
	a := testcerts.NewAuthority(t, "test")
	key := a.Issue(t, nil)
	files := map[string]string{}
	for i := range n {
		name := fmt.Sprintf("host%d", i)
		put(t, files, name, a.IssueFor(t, key.Key, nil, name+".example.com"))
	}
	dir := testfiles.Write(t, files)
	store := NewStore(loaded(t, Config{Directory: dir, Watch: true}))
	log := slog.New(slog.DiscardHandler)
	for range 3 {
		store.Look(log)
	}
	before := store.Policy()
	store.Look(log)
	if store.Policy() != before {
		t.Error("a look without a change makes another policy")
	}
	next := a.IssueFor(t, key.Key, nil, "host7.example.com")
	if err := os.WriteFile(filepath.Join(dir, ".next"), []byte(next.PEM()), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, ".next"), filepath.Join(dir, "host7.crt")); err != nil {
		t.Fatal(err)
	}
	store.Look(log)
	store.Look(log)
	state, err, _ := shake(t, store.Server(never), &tls.Config{ServerName: "host7.example.com", RootCAs: a.Pool()})
	if err != nil || !state.PeerCertificates[0].Equal(next.Leaf) {
		t.Errorf("not the new certificate: %v", err)
	}
	if got := len(store.Policy().entries); got != n {
		t.Errorf("%d certificates, not %d", got, n)
	}
}

func BenchmarkLook(b *testing.B) {
	a := testcerts.NewAuthority(b, "test")
	key := a.Issue(b, nil)
	files := map[string]string{}
	for i := range MaxCertificates {
		name := fmt.Sprintf("host%d", i)
		put(b, files, name, a.IssueFor(b, key.Key, nil, name+".example.com"))
	}
	dir := testfiles.Write(b, files)
	long := time.Now().Add(-time.Hour)
	if err := os.Chtimes(dir, long, long); err != nil {
		b.Fatal(err)
	}
	store := NewStore(loaded(b, Config{Directory: dir, Watch: true}))
	log := slog.New(slog.DiscardHandler)
	store.Look(log)
	store.Look(log)
	for b.Loop() {
		store.Look(log)
	}
}
