package certs

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/internal/testcerts"
	"github.com/limpetlb/limpet/internal/testfiles"
	"github.com/limpetlb/limpet/internal/testrace"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// never is for listeners without services that need certificates of clients.
func never(string) bool { return false }

// put writes a certificate and its key into files, as NAME.crt and NAME.key.
func put(t testing.TB, files map[string]string, name string, c *testcerts.Cert) {
	files[name+".crt"], files[name+".key"] = c.PEM(), c.KeyPEM(t)
}

// config has these pairs of a directory, by their names, in order.
func config(dir string, names ...string) (cfg Config) {
	for i, name := range names {
		cfg.Certificates = append(cfg.Certificates, Pair{
			Field: fielderr.Index("certificates", i), Certificate: filepath.Join(dir, name+".crt"), Key: filepath.Join(dir, name+".key"),
		})
	}
	return cfg
}

func loaded(t testing.TB, cfg Config) *Policy {
	t.Helper()
	p, err := Load(cfg, osFiles{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A queue sends what is written in the background, as sockets do: with
// [net.Pipe] alone, both sides may write and wait for a reader.
type queue struct {
	net.Conn
	writes chan []byte
}

// buffered returns a connection that closes c when everything is sent.
func buffered(c net.Conn) *queue {
	q := &queue{c, make(chan []byte, 100)}
	go func() {
		defer c.Close()
		for p := range q.writes {
			_, _ = c.Write(p) // the other side may have left
		}
	}()
	return q
}

// Write implements net.Conn.
func (q *queue) Write(p []byte) (int, error) {
	q.writes <- slices.Clone(p)
	return len(p), nil
}

// shake makes a handshake, and returns what the client knows then. The server
// says a byte, which a client of TLS 1.3 needs to get tickets, and to see that
// its certificate is refused.
func shake(t testing.TB, server, client *tls.Config) (state tls.ConnectionState, clientErr, serverErr error) {
	t.Helper()
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	ended := make(chan error)
	go func() {
		conn := buffered(far)
		s := tls.Server(conn, server)
		err := s.Handshake()
		if err == nil {
			_, err = s.Write([]byte("x"))
		}
		close(conn.writes)
		ended <- err
	}()
	conn := buffered(near)
	c := tls.Client(conn, client)
	if clientErr = c.Handshake(); clientErr == nil {
		_, clientErr = c.Read(make([]byte, 1))
	}
	state = c.ConnectionState()
	close(conn.writes)
	return state, clientErr, <-ended
}

// Each name gets its certificate, each client one that it supports.
func TestChoice(t *testing.T) {
	a := testcerts.NewAuthority(t, "test")
	files := map[string]string{}
	certs := map[string]*testcerts.Cert{
		"first": a.IssueRSA(t, nil, "first.example.com", "second.example.com"),
		"rsa":   a.IssueRSA(t, nil, "both.example.com"),
		"ec":    a.Issue(t, nil, "Both.Example.com", "only.example.com"),
		"wild":  a.IssueRSA(t, nil, "*.example.com", "*.deep.example.com"),
		"later": a.Issue(t, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }, "times.example.com"),
		"now":   a.Issue(t, nil, "times.example.com"),
		"other": a.Issue(t, nil, "other.example.org"),
		"bare":  a.Issue(t, nil),
	}
	for name, c := range certs {
		put(t, files, name, c)
	}
	dir := testfiles.Write(t, files)
	names := []string{"first", "rsa", "ec", "wild", "later", "now", "other", "bare"}
	cfg := config(dir, names...)
	store := NewStore(loaded(t, cfg))
	modern := &tls.Config{}
	old := &tls.Config{MaxVersion: tls.VersionTLS12}
	onlyRSA := &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}}
	chosen := func(client *tls.Config, name string) string {
		t.Helper()
		client = client.Clone()
		client.ServerName, client.InsecureSkipVerify = name, true
		state, err, serverErr := shake(t, store.Server(never), client)
		if err != nil {
			return strings.Split(fmt.Sprint(serverErr), "; ")[0]
		}
		for name, c := range certs {
			if c.Leaf.Equal(state.PeerCertificates[0]) {
				return name
			}
		}
		return "unknown"
	}
	for _, c := range []struct {
		client     *tls.Config
		name, want string
	}{
		{modern, "first.example.com", "first"}, {modern, "second.example.com", "first"},
		{modern, "both.example.com", "ec"}, {old, "both.example.com", "ec"}, {onlyRSA, "both.example.com", "rsa"}, {modern, "BOTH.example.com", "ec"},
		{modern, "a.example.com", "wild"}, {modern, "a.b.example.com", "first"}, {modern, "a.deep.example.com", "wild"}, {modern, "deep.example.com", "wild"},
		{modern, "only.example.com", "ec"}, {onlyRSA, "only.example.com", "wild"}, // better than none
		{modern, "times.example.com", "now"}, {modern, "other.example.org", "other"},
		{modern, "example.com", "first"}, {modern, "nobody.example.org", "first"}, {modern, "", "first"},
		{onlyRSA, "other.example.org", "tls: no cipher suite supported by both client and server"},
	} {
		if got := chosen(c.client, c.name); got != c.want {
			t.Errorf("%q gets %s, not %s", c.name, got, c.want)
		}
	}

	cfg.Default = "Both.example.com"
	store.Use(loaded(t, cfg))
	for client, want := range map[*tls.Config]string{modern: "ec", onlyRSA: "rsa"} {
		if got := chosen(client, "nobody.example.org"); got != want {
			t.Errorf("the default is %s, not %s", got, want)
		}
	}
	cfg.Default = "x.deep.example.com" // which a wildcard has
	store.Use(loaded(t, cfg))
	if got := chosen(modern, ""); got != "wild" {
		t.Errorf("the default is %s, not wild", got)
	}

	cfg.Default, cfg.StrictSNI = "", true
	store.Use(loaded(t, cfg))
	for _, name := range []string{"", "nobody.example.org", "a.b.example.com"} {
		_, err, _ := shake(t, store.Server(never), &tls.Config{ServerName: name, InsecureSkipVerify: true})
		if err == nil || !strings.Contains(err.Error(), "unrecognized name") {
			t.Errorf("%q: %v", name, err)
		}
	}
	if got := chosen(modern, "a.example.com"); got != "wild" {
		t.Errorf("strict: %s", got)
	}
}

// Versions, suites, curves and protocols are those of the configuration.
func TestSettings(t *testing.T) {
	a := testcerts.NewAuthority(t, "test")
	files := map[string]string{}
	put(t, files, "a", a.Issue(t, nil, "a.example.com"))
	cfg := config(testfiles.Write(t, files), "a")
	offer := func(change func(c *tls.Config)) *tls.Config {
		c := &tls.Config{ServerName: "a.example.com", RootCAs: a.Pool(), NextProtos: []string{"h2", "http/1.1"}}
		if change != nil {
			change(c)
		}
		return c
	}
	old := func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }
	upTo12 := func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }
	for _, c := range []struct {
		name   string
		server func(c *Config)
		client *tls.Config
		want   string
	}{
		{"default", nil, offer(nil), "TLS 1.3 h2 X25519MLKEM768"},
		{"old", nil, offer(old), "tls: client offered only unsupported versions: [302 301]"},
		{"1.2", nil, offer(upTo12), "TLS 1.2 h2 X25519"},
		{"minVersion", func(c *Config) { c.MinVersion = tls.VersionTLS13 }, offer(upTo12), "tls: client offered only unsupported versions: [303]"},
		{"maxVersion", func(c *Config) { c.MaxVersion = tls.VersionTLS12 }, offer(nil), "TLS 1.2 h2 X25519"},
		{"curves", func(c *Config) { c.Curves = []tls.CurveID{tls.CurveP384} }, offer(nil), "TLS 1.3 h2 CurveP384"},
		{"http1", func(c *Config) { c.HTTP1 = true }, offer(nil), "TLS 1.3 http/1.1 X25519MLKEM768"},
		{"suites", func(c *Config) { c.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256} }, offer(func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
		}), "tls: no cipher suite supported by both client and server"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := cfg
			if c.server != nil {
				c.server(&cfg)
			}
			state, err, serverErr := shake(t, NewStore(loaded(t, cfg)).Server(never), c.client)
			got := fmt.Sprintf("%s %s %v", tls.VersionName(state.Version), state.NegotiatedProtocol, state.CurveID)
			if err != nil {
				got = strings.Split(fmt.Sprint(serverErr), "; ")[0]
			}
			if got != c.want {
				t.Errorf("%s, not %s", got, c.want)
			}
		})
	}
}

// All that is wrong with files is reported at once, each with its place.
func TestLoadFaults(t *testing.T) {
	a, b := testcerts.NewAuthority(t, "a"), testcerts.NewAuthority(t, "b")
	one, two := a.Issue(t, nil, "a.example.com"), a.Issue(t, nil, "b.example.com")
	later := time.Now().Add(time.Hour)
	critical := func(l *x509.RevocationList) {
		l.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: []byte{0x30, 0}}}
	}
	files := map[string]string{
		"a.crt": one.PEM(), "a.key": one.KeyPEM(t), "b.key": two.KeyPEM(t), "empty.crt": "", "list": a.Revoke(t, later, nil, one), "foreign": b.Revoke(t, later, nil),
		"partial": a.Revoke(t, later, critical), "rubbish": "rubbish", "ca": a.PEM(), "empty/x": "", "broken/x.crt": "", "broken/x.key": "", "both/y.pem": one.PEM(),
	}
	dir := testfiles.Write(t, files)
	at := func(name string) string { return filepath.Join(dir, name) }
	pair := func(certificate, key string) Pair {
		p := Pair{Field: "certificates[0]", Certificate: at(certificate)}
		if key != "" {
			p.Key = at(key)
		}
		return p
	}
	clients := func(ca, crl []string) Config {
		cfg := Config{Certificates: []Pair{pair("a.crt", "a.key")}, Clients: &Clients{}}
		for _, name := range ca {
			cfg.Clients.CA = append(cfg.Clients.CA, at(name))
		}
		for _, name := range crl {
			cfg.Clients.CRL = append(cfg.Clients.CRL, at(name))
		}
		return cfg
	}
	for _, c := range []struct {
		name string
		cfg  Config
		want []string
	}{
		{"nothing", Config{}, []string{"want a certificate, certificates or a directory"}},
		{"a key alone", Config{Certificates: []Pair{{Field: "x", Key: "k"}}}, []string{"x: want a certificate"}},
		{"missing", Config{Certificates: []Pair{pair("no", "a.key"), pair("a.crt", "no")}}, []string{"certificates[0]: stat DIR/no: no such file or directory", "certificates[0]: stat DIR/no: no such file or directory"}},
		{"of another", Config{Certificates: []Pair{pair("a.crt", "b.key")}}, []string{"certificates[0]: certificate DIR/a.crt and key DIR/b.key: tls: private key does not match public key"}},
		{"swapped", Config{Certificates: []Pair{pair("a.key", "a.crt")}}, []string{"certificates[0]: certificate DIR/a.key and key DIR/a.crt: tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs may have been switched"}},
		{"no key", Config{Certificates: []Pair{pair("a.crt", "")}}, []string{"certificates[0]: DIR/a.crt: no private key in it, and no key in another file"}},
		{"a key as one file", Config{Certificates: []Pair{pair("a.key", "")}}, []string{"certificates[0]: DIR/a.key: tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs may have been switched"}},
		{"no directory", Config{Directory: at("no")}, []string{"directory: open DIR/no: no such file or directory"}},
		{"empty directory", Config{Directory: at("empty")}, []string{"directory: no certificate in DIR/empty: want files *.pem, or *.crt with *.key"}},
		{"broken directory", Config{Directory: at("broken")}, []string{"directory: certificate DIR/broken/x.crt and key DIR/broken/x.key: tls: failed to find any PEM data in certificate input"}},
		{"certificate alone in a directory", Config{Directory: at("both")}, []string{"directory: DIR/both/y.pem: no private key in it, and no key in another file"}},
		{"default", Config{Certificates: []Pair{pair("a.crt", "a.key")}, Default: "b.example.com"}, []string{`default: no certificate has the name "b.example.com"; did you mean "a.example.com"?`}},
		{"no authority", clients(nil, []string{"list"}), []string{"clientCertificates.ca: want a file"}},
		{"authorities", clients([]string{"ca", "no", "rubbish", "a.key"}, nil), []string{
			"clientCertificates.ca[1]: stat DIR/no: no such file or directory", "clientCertificates.ca[2]: DIR/rubbish: no certificate in PEM",
			`clientCertificates.ca[3]: DIR/a.key: want certificates in PEM, not "PRIVATE KEY"`,
		}},
		{"lists", clients([]string{"ca"}, []string{"list", "foreign", "partial", "rubbish", "ca", "no"}), []string{
			`clientCertificates.crl[1]: DIR/foreign: no certificate in ca has signed the revocation list of "CN=b"`,
			"clientCertificates.crl[2]: DIR/partial: the critical extension 2.5.29.28 of a revocation list is not supported",
			"clientCertificates.crl[3]: DIR/rubbish: x509: malformed crl", `clientCertificates.crl[4]: DIR/ca: want revocation lists in PEM, not "CERTIFICATE"`,
			"clientCertificates.crl[5]: stat DIR/no: no such file or directory",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Load(c.cfg, osFiles{})
			if err == nil {
				t.Fatal("no fault")
			}
			var got []string
			for _, fault := range fielderr.Leaves(err) {
				if !errors.As(fault, new(*fielderr.Error)) {
					t.Errorf("%v has no place", fault)
				}
				got = append(got, strings.ReplaceAll(fault.Error(), dir, "DIR"))
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
	if _, err := Load(Config{Directory: at("no")}, osFiles{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v does not wrap its cause", err)
	}
}

// A directory has certificates of both forms, and other files.
func TestDirectory(t *testing.T) {
	a := testcerts.NewAuthority(t, "test")
	files := map[string]string{"readme.txt": "", "chain.crt": a.PEM(), ".hidden.pem": "rubbish"}
	both := a.Issue(t, nil, "b.example.com")
	files["b.pem"] = "\ufeff" + both.KeyPEM(t) + both.PEM()
	put(t, files, "a", a.IssueRSA(t, nil, "a.example.com"))
	p := loaded(t, Config{Directory: testfiles.Write(t, files)})
	var names []string
	for _, e := range p.entries {
		names = append(names, e.cert.Leaf.DNSNames...)
	}
	if want := []string{"a.example.com", "b.example.com"}; !slices.Equal(names, want) {
		t.Errorf("names %v, not %v", names, want)
	}
}

// What makes clients refuse a certificate is a warning.
func TestWarnings(t *testing.T) {
	a := testcerts.NewAuthority(t, "test")
	files := map[string]string{"ca": a.PEM(), "crl": a.Revoke(t, time.Now().Add(-time.Minute), nil)}
	for name, change := range map[string]func(c *x509.Certificate){
		"good": nil, "soon": func(c *x509.Certificate) { c.NotAfter = time.Now().Add(time.Hour) },
		"late": func(c *x509.Certificate) {
			c.NotAfter = time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
			c.NotBefore = c.NotAfter.AddDate(-1, 0, 0)
		},
		"early": func(c *x509.Certificate) {
			c.NotBefore = time.Date(2099, 1, 2, 3, 4, 5, 0, time.UTC)
			c.NotAfter = c.NotBefore.AddDate(1, 0, 0)
		},
		"staple": func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}, Value: []byte{0x30, 3, 2, 1, 5}}}
		},
	} {
		put(t, files, name, a.Issue(t, change, name+".example.com"))
	}
	dir := testfiles.Write(t, files)
	cfg := config(dir, "good", "soon", "late", "early", "staple")
	cfg.Clients = &Clients{CA: []string{filepath.Join(dir, "ca")}, CRL: []string{filepath.Join(dir, "crl")}}
	var got []string
	for _, w := range loaded(t, cfg).Warnings() {
		got = append(got, strings.ReplaceAll(w.Error(), dir, "DIR"))
	}
	want := []string{
		"certificates[2]: DIR/late.crt: certificate has expired (2020-01-02 03:04:05 UTC)", "certificates[3]: DIR/early.crt: certificate is not valid yet (2099-01-02 03:04:05 UTC)",
		"certificates[4]: DIR/staple.crt: the certificate demands OCSP stapling, which limpet does not do",
	}
	if len(got) != 4 || !strings.HasPrefix(got[3], "clientCertificates.crl[0]: DIR/crl: revocation list has expired, and clients are refused (") {
		t.Errorf("%q", got)
	}
	if diff := cmp.Diff(want, got[:3]); diff != "" {
		t.Error(diff)
	}
}

// manyNames is an index of 10,000 certificates, of which some have the names of
// others, and what clients ask for.
func manyNames(t testing.TB) (*index, []*tls.ClientHelloInfo) {
	a := testcerts.NewAuthority(t, "test")
	ec, rsa := a.Issue(t, nil), a.IssueRSA(t, nil)
	var entries []*entry
	add := func(c *testcerts.Cert, names ...string) {
		leaf := *c.Leaf // signing 10,000 takes a while, and nobody verifies them here
		leaf.DNSNames = names
		cert := c.TLS()
		cert.Leaf = &leaf
		entries = append(entries, &entry{cert: &cert})
	}
	for i := range 4_000 {
		add(rsa, fmt.Sprintf("host%d.example.com", i))
		add(ec, fmt.Sprintf("host%d.example.com", i))
	}
	for i := range 2_000 {
		add(ec, fmt.Sprintf("*.wild%d.example.com", i))
	}
	// What a handshake knows of its client.
	var hellos []*tls.ClientHelloInfo
	for _, client := range []*tls.Config{{}, {MaxVersion: tls.VersionTLS12}, {MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}}} {
		for _, name := range []string{"host1.example.com", "host3999.example.com", "a.wild1999.example.com", "nobody.example.org"} {
			client := client.Clone()
			client.ServerName, client.InsecureSkipVerify = name, true
			cert := rsa.TLS()
			_, err, _ := shake(t, &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
				hellos = append(hellos, hello)
				return &cert, nil
			}}, client)
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return newIndex(entries, "", false), hellos
}

// To look a name up allocates nothing. To choose between several certificates
// with the name does, in package tls.
func TestFindAllocatesNothing(t *testing.T) {
	if testrace.Enabled {
		t.Skip("the race detector allocates")
	}
	x, hellos := manyNames(t)
	for _, hello := range hellos {
		if x.find(hello) == nil {
			t.Errorf("nothing for %s", hello.ServerName)
		}
		exact, below := x.candidates(hello.ServerName)
		look := func() { x.candidates(hello.ServerName) }
		if len(exact)+len(below) == 1 {
			look = func() { x.find(hello) }
		}
		if n := testing.AllocsPerRun(100, look); n != 0 {
			t.Errorf("%s: %v allocations", hello.ServerName, n)
		}
	}
}

func BenchmarkFind(b *testing.B) {
	x, hellos := manyNames(b)
	for _, hello := range hellos {
		kind := tls.VersionName(slices.Max(hello.SupportedVersions))
		if len(hello.CipherSuites) == 1 {
			kind += " RSA"
		}
		b.Run(kind+"/"+hello.ServerName, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				x.find(hello)
			}
		})
	}
}
