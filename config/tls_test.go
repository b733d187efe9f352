package config

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet/internal/certs"
	"github.com/limpetlb/limpet/internal/testcerts"
	"github.com/limpetlb/limpet/internal/testfiles"
	"github.com/limpetlb/limpet/internal/testwait"
)

// teapot is a service that answers all requests.
const teapot = "httpSecurity: [{name: all, action: {respond: {status: 418}}}]\n"

// putCert adds the files NAME.crt and NAME.key.
func putCert(t testing.TB, files map[string]string, name string, c *testcerts.Cert) {
	files[name+".crt"], files[name+".key"] = c.PEM(), c.KeyPEM(t)
}

// ask makes a request for a host over TLS, on a connection of its own, and
// returns its answer, or what is wrong.
func (h *house) ask(listener, host string, client *tls.Config) (string, *tls.ConnectionState) {
	h.Helper()
	transport := &http.Transport{TLSClientConfig: client, ForceAttemptHTTP2: true, DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(h.Context(), http.MethodGet, "https://"+h.at[listener], nil)
	if err != nil {
		h.Fatal(err)
	}
	r.Host = host
	res, err := (&http.Client{Transport: transport}).Do(r)
	if err != nil {
		return err.Error(), nil
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		h.Fatal(err)
	}
	answer := fmt.Sprint(res.Proto, " ", res.StatusCode)
	if res.StatusCode == http.StatusOK {
		answer += " " + string(body)
	}
	return answer, res.TLS
}

// What the keys of tls say is how a listener speaks.
func TestTLS(t *testing.T) {
	t.Parallel()
	a := testcerts.NewAuthority(t, "test")
	files := map[string]string{}
	first, second := a.Issue(t, nil, "a.example.com"), a.IssueRSA(t, nil, "b.example.com")
	putCert(t, files, "a", first)
	files["more/b.pem"] = second.PEM() + second.KeyPEM(t)
	files["more/c.crt"] = a.PEM()
	client := func(name string, change func(c *tls.Config)) *tls.Config {
		c := &tls.Config{ServerName: name, RootCAs: a.Pool()}
		if change != nil {
			change(c)
		}
		return c
	}
	upTo12 := func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }
	loose := func(c *tls.Config) { c.InsecureSkipVerify = true }
	for _, c := range []struct {
		name, tls string
		client    *tls.Config
		want      string // the answer, or a part of the error
	}{
		{"short", "{certificate: a.crt, key: a.key}", client("a.example.com", nil), "HTTP/2.0 418"},
		{"both in a file", "{certificate: more/b.pem}", client("b.example.com", nil), "HTTP/2.0 418"},
		{"list", "{certificates: [{certificate: a.crt, key: a.key}, {certificate: more/b.pem}]}", client("b.example.com", nil), "HTTP/2.0 418"},
		{"directory", "{directory: more}", client("b.example.com", nil), "HTTP/2.0 418"},
		{"short and directory", "{certificate: a.crt, key: a.key, directory: more}", client("b.example.com", nil), "HTTP/2.0 418"},
		{"no such name", "{certificate: a.crt, key: a.key}", client("c.example.com", loose), "HTTP/2.0 418"},
		{"strictSNI", "{certificate: a.crt, key: a.key, strictSNI: true}", client("c.example.com", loose), "unrecognized name"},
		{"http2", "{certificate: a.crt, key: a.key, http2: false}", client("a.example.com", nil), "HTTP/1.1 418"},
		{"minVersion", "{certificate: a.crt, key: a.key, minVersion: 1.3}", client("a.example.com", upTo12), "protocol version not supported"},
		{"maxVersion", `{certificate: a.crt, key: a.key, maxVersion: "1.2"}`, client("a.example.com", func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 }), "protocol version not supported"},
		{"cipherSuites", "{certificate: a.crt, key: a.key, cipherSuites: [TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256]}", client("a.example.com", func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
		}), "handshake failure"},
		{"curves", "{certificate: a.crt, key: a.key, curves: [P-384, x25519]}", client("a.example.com", func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.CurveP256} }), "handshake failure"},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := map[string]string{"a.crt": files["a.crt"], "a.key": files["a.key"], "more/b.pem": files["more/b.pem"], "more/c.crt": files["more/c.crt"]}
			files["limpet.yaml"] = "tls: " + c.tls + "\n" + teapot
			h := open(t, files, Options{})
			got, _ := h.ask("listen", "a", c.client)
			if got != c.want && (strings.HasPrefix(c.want, "HTTP") || !strings.Contains(got, c.want)) {
				t.Errorf("%s, not %s", got, c.want)
			}
		})
	}

	var shown []*x509.Certificate
	files["limpet.yaml"] = "tls: {certificate: a.crt, key: a.key, directory: more, default: b.example.com}\n" + teapot
	h := open(t, files, Options{})
	for _, name := range []string{"a.example.com", "c.example.com", ""} {
		_, state := h.ask("listen", "a", client(name, loose))
		if state == nil {
			t.Fatal("no answer")
		}
		shown = append(shown, state.PeerCertificates[0])
	}
	if !shown[0].Equal(first.Leaf) || !shown[1].Equal(second.Leaf) || !shown[2].Equal(second.Leaf) {
		t.Error("not the default")
	}
}

// Faults have their places.
func TestTLSFaults(t *testing.T) {
	t.Parallel()
	a := testcerts.NewAuthority(t, "test")
	files := map[string]string{"ca.pem": a.PEM()}
	putCert(t, files, "a", a.Issue(t, nil, "a.example.com"))
	const pair = "certificate: a.crt, key: a.key"
	const services = "pools: [{name: web, servers: [{address: 10.0.0.1:80}]}]\nservices: [{name: a, pools: [web], clientCertificates: required}]\n"
	for _, c := range []struct{ name, text, want string }{
		{"old version", "tls: {" + pair + ", minVersion: 1.1}\n" + teapot, `a.yaml:1:51: tls.minVersion: "1.1" is not one of 1.2, 1.3`},
		{"versions", "tls: {" + pair + ", minVersion: 1.3, maxVersion: 1.2}\n" + teapot, `a.yaml:1:68: tls.maxVersion: "1.2": older than minVersion`},
		{"default", "tls: {" + pair + ", default: b.example.com}\n" + teapot, `a.yaml:1:48: tls.default: no certificate has the name "b.example.com"; did you mean "a.example.com"?`},
		{"default and strictSNI", "tls: {" + pair + ", default: a.example.com, strictSNI: true}\n" + teapot, `a.yaml:1:48: tls.default: "a.example.com": without effect beside strictSNI`},
		{"suite", "tls: {" + pair + ", cipherSuites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA265]}\n" + teapot, `; did you mean "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"?`},
		{"insecure suite", "tls: {" + pair + ", cipherSuites: [TLS_RSA_WITH_RC4_128_SHA]}\n" + teapot, `a.yaml:1:54: tls.cipherSuites[0]: "TLS_RSA_WITH_RC4_128_SHA" is not secure`},
		{"suite of 1.3", "tls: {" + pair + ", cipherSuites: [TLS_AES_128_GCM_SHA256]}\n" + teapot, `tls.cipherSuites[0]: "TLS_AES_128_GCM_SHA256" is one of TLS 1.3, whose suites cannot be chosen`},
		{"suites of 1.2 alone", "tls: {" + pair + ", minVersion: 1.3, cipherSuites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]}\n" + teapot, "tls.cipherSuites: without effect: they are those of TLS 1.2, which minVersion excludes"},
		{"no suite for HTTP/2", "tls: {" + pair + ", cipherSuites: [TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA]}\n" + teapot, "tls.cipherSuites: HTTP/2 needs one with GCM or CHACHA20; or set http2 to false"},
		{"curve", "tls: {" + pair + ", curves: [P-224]}\n" + teapot, `tls.curves[0]: "P-224" is not one of X25519MLKEM768, SecP256r1MLKEM768, SecP384r1MLKEM1024, X25519, P-256, P-384, P-521`},
		{"mode", "tls: {" + pair + ", clientCertificates: {ca: [ca.pem], mode: required}}\n" + teapot, `tls.clientCertificates.mode: "required" is not one of require, optional; did you mean "require"?`},
		{"no authority", "tls: {" + pair + ", clientCertificates: {}}\n" + teapot, "a.yaml:1:59: tls.clientCertificates.ca: want a file"},
		{"authority", "tls: {" + pair + ", clientCertificates: {ca: [ca.pem, no.pem]}}\n" + teapot, `a.yaml:1:73: tls.clientCertificates.ca[1]: open DIR/no.pem: no such file or directory`},
		{"list", "tls: {" + pair + ", clientCertificates: {ca: [ca.pem], crl: [a.yaml]}}\n" + teapot, `tls.clientCertificates.crl[0]: DIR/a.yaml: x509: malformed crl`},
		{"directory", "tls: {directory: none}\n" + teapot, `a.yaml:1:18: tls.directory: open DIR/none: no such file or directory`},
		{"several at once", "tls: {certificates: [{certificate: no}, {certificate: a.crt}], minVersion: 1.3, maxVersion: 1.2}\n" + teapot, "tls.certificates[1]: DIR/a.crt: no private key in it, and no key in another file\nDIR/a.yaml:1:93: tls.maxVersion"},
		{"a service that needs them", services, `a.yaml:2:56: services[0].clientCertificates: "required": listener "listen" asks for none: it needs tls with clientCertificates`},
		{"a service at a listener without", "listeners: [{name: l, address: ':1', tls: {" + pair + "}}]\n" + services, `listener "l" asks for none`},
		{"a service and a word", strings.Replace(services, "required", "requird", 1), `services[0].clientCertificates: "requird" is not one of as listener, required; did you mean "required"?`},
	} {
		t.Run(c.name, func(t *testing.T) {
			files["a.yaml"] = c.text
			if _, errs := loaded(t, files, "a.yaml"); !strings.Contains(errs, c.want) {
				t.Errorf("%s\nnot %s", errs, c.want)
			}
		})
	}
}

// Words of the file are there and back.
func TestTLSWords(t *testing.T) {
	for _, typ := range []reflect.Type{reflect.TypeFor[tlsVersion](), reflect.TypeFor[cipherSuite](), reflect.TypeFor[curve](), reflect.TypeFor[clientMode](), reflect.TypeFor[certificateNeed]()} {
		all := words(typ)
		if len(all) < 2 {
			t.Errorf("%v has the words %v", typ, all)
		}
		for _, word := range all {
			v := reflect.New(typ)
			if err := v.Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(word)); err != nil {
				t.Error(err)
			}
			if text, err := v.Elem().Interface().(encoding.TextMarshaler).MarshalText(); string(text) != word || err != nil {
				t.Errorf("%s is %s, %v", word, text, err)
			}
		}
	}
	if len(curves) != len(curveWords) {
		t.Error("curves without names")
	}
	for i, id := range curves {
		if name := strings.ReplaceAll(id.String(), "Curve", ""); !strings.EqualFold(strings.ReplaceAll(curveWords[i], "-", ""), name) {
			t.Errorf("%v is called %s", id, curveWords[i])
		}
	}
}

// Files of a listener are watched by the runtime, and by nobody else; those of
// a file system of the program are not.
func TestTLSFiles(t *testing.T) {
	a := testcerts.NewAuthority(t, "test")
	text := "tls: {certificate: c/a.crt, key: c/a.key, directory: c, clientCertificates: {ca: [c/ca.pem]}}\n" + teapot
	files := map[string]string{"limpet.yaml": text, "c/ca.pem": a.PEM() + a.Issue(t, nil).PEM()}
	c := a.Issue(t, nil, "a.example.com")
	putCert(t, files, "c/a", c)
	files["c/ca.pem"] = c.KeyPEM(t) + c.PEM() // a *.pem in the directory is a certificate with its key
	if _, errs := loaded(t, files, "limpet.yaml"); !strings.Contains(errs, `tls.clientCertificates.ca[0]: DIR/c/ca.pem: want certificates in PEM, not "PRIVATE KEY"`) {
		t.Error(errs)
	}
	files["ca.pem"] = a.PEM()
	files["limpet.yaml"] = strings.Replace(text, "[c/ca.pem]", "[ca.pem]", 1)
	delete(files, "c/ca.pem")
	dir := testfiles.Write(t, files)
	f, err := Load(t.Context(), filepath.Join(dir, "limpet.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if got := f.Paths(); !slices.Equal(got, []string{filepath.Join(dir, "limpet.yaml")}) {
		t.Errorf("paths %v", got)
	}
	mapped := fstest.MapFS{}
	for name, text := range files {
		mapped[name] = &fstest.MapFile{Data: []byte(text)}
	}
	f, err = Parse(t.Context(), "limpet.yaml", mapped["limpet.yaml"].Data, mapped)
	if err != nil {
		t.Fatal(err)
	}
	rt, err := f.Build(Options{})
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		rt.listeners[0].certs.Load().Look(slog.New(slog.NewTextHandler(failing{t}, nil)))
	}
}

// failing is a log that must stay empty.
type failing struct{ *testing.T }

// Write implements io.Writer.
func (f failing) Write(p []byte) (int, error) {
	f.Errorf("logged: %s", p)
	return len(p), nil
}

// Warnings of certificates stand where these are named.
func TestTLSWarnings(t *testing.T) {
	a := testcerts.NewAuthority(t, "test")
	files := map[string]string{}
	putCert(t, files, "late", a.Issue(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, "a.example.com"))
	for text, want := range map[string]string{
		"tls: {certificate: late.crt, key: late.key}\n" + teapot:                                                          "a.yaml:1:6: tls: DIR/late.crt: certificate has expired (",
		"listeners: [{name: l, address: ':1', tls: {certificates: [{certificate: late.crt, key: late.key}]}}]\n" + teapot: "a.yaml:1:59: listeners[0].tls.certificates[0]: DIR/late.crt: certificate has expired (",
		"tls: {directory: .}\n" + teapot:                                                                                  "a.yaml:1:18: tls.directory: DIR/late.crt: certificate has expired (",
	} {
		files["a.yaml"] = text
		dir := testfiles.Write(t, files)
		f, err := Load(t.Context(), filepath.Join(dir, "a.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		w := f.Warnings()
		if len(w) != 1 || !strings.Contains(strings.ReplaceAll(w[0].Error(), dir, "DIR"), want) {
			t.Errorf("%v, not %s", w, want)
		}
	}
}

// A lockedLog is a log of several goroutines.
type lockedLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedLog) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), text)
}

// While a runtime runs it takes new certificates from their files. An update
// takes them too, and keeps sessions and connections.
func TestTLSReload(t *testing.T) {
	t.Parallel()
	a := testcerts.NewAuthority(t, "test")
	files := map[string]string{"limpet.yaml": "tls: {certificate: a.crt, key: a.key}\n" + teapot}
	putCert(t, files, "a", a.Issue(t, nil, "a.example.com"))
	log := &lockedLog{}
	h := open(t, files, Options{Logger: slog.New(slog.NewTextHandler(log, nil))})
	client := &tls.Config{ServerName: "a.example.com", RootCAs: a.Pool(), ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	shows := func(c *testcerts.Cert) bool {
		t.Helper()
		_, state := h.ask("listen", "a", &tls.Config{ServerName: "a.example.com", RootCAs: a.Pool()})
		return state != nil && state.PeerCertificates[0].Equal(c.Leaf)
	}
	write := func(c *testcerts.Cert, names ...string) {
		t.Helper()
		putCert(t, files, "a", c)
		for _, name := range names {
			if err := os.WriteFile(filepath.Join(h.dir, name), []byte(files[name]), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	resumes := func() {
		t.Helper()
		if answer, state := h.ask("listen", "a", client); state == nil || !state.DidResume {
			t.Errorf("%s: not resumed", answer)
		}
	}
	kept := &http.Client{Transport: &http.Transport{TLSClientConfig: client.Clone()}}
	defer kept.CloseIdleConnections()
	ask := func() {
		t.Helper()
		res, err := kept.Get("https://" + h.at["listen"])
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}
	ask()
	h.ask("listen", "a", client)
	resumes()

	second := a.Issue(t, nil, "a.example.com")
	write(second, "a.crt", "a.key")
	testwait.Until(t, "the new certificate is in force", func() bool { return shows(second) })
	if !log.has(`msg="certificate changed" listener=listen certificate=`) {
		t.Error("not logged")
	}
	resumes()
	ask()

	// An update does it at once, and says what it was.
	third := a.Issue(t, nil, "a.example.com")
	write(third, "a.crt", "a.key")
	changes, err := h.rewrite(files["limpet.yaml"])
	if err != nil || !shows(third) {
		t.Errorf("not the certificate of the update: %v", err)
	}
	if diff := cmp.Diff([]string{"tls.certificate", "tls.key"}, changes.Live); diff != "" {
		t.Error(diff)
	}
	resumes()

	// Settings follow.
	if _, err := h.rewrite("tls: {certificate: a.crt, key: a.key, http2: false, minVersion: 1.3}\n" + teapot); err != nil {
		t.Fatal(err)
	}
	if got, _ := h.ask("listen", "a", client); got != "HTTP/1.1 418" {
		t.Error(got)
	}
	if got, _ := h.ask("listen", "a", &tls.Config{ServerName: "a.example.com", RootCAs: a.Pool(), MaxVersion: tls.VersionTLS12}); !strings.Contains(got, "protocol version") {
		t.Error(got)
	}
	ask() // on the connection from before

	// A pair that does not fit is a fault for an update, and changes nothing.
	write(a.Issue(t, nil, "a.example.com"), "a.crt")
	if _, err := Load(t.Context(), filepath.Join(h.dir, "limpet.yaml")); err == nil || !strings.Contains(err.Error(), "private key does not match") {
		t.Error(err)
	}
	if !shows(third) {
		t.Error("not the last good certificate")
	}
}

// A service whose clients must have a certificate gets them in the handshake if
// that is for one of its names. Requests that come to it by another name are
// misdirected.
func TestServiceNeedsCertificates(t *testing.T) {
	t.Parallel()
	servers, ours := testcerts.NewAuthority(t, "servers"), testcerts.NewAuthority(t, "ours")
	files := map[string]string{"ca.pem": ours.PEM(), "limpet.yaml": `listeners:
  - {name: mixed, address: ':1', tls: {certificate: a.crt, key: a.key, clientCertificates: {ca: [ca.pem], mode: optional}}}
  - {name: closed, address: ':2', tls: {certificate: a.crt, key: a.key, clientCertificates: {ca: [ca.pem]}}}
services:
  - {name: open, hosts: [open.example.com], httpSecurity: [{name: all, action: {respond: {status: 201}}}]}
  - {name: inner, clientCertificates: required, hosts: [inner.example.com, "*.inner.example.com"], httpSecurity: [{name: all, action: {respond: {status: 202}}}]}
  - {name: other, clientCertificates: required, hosts: [other.example.com], httpSecurity: [{name: all, action: {respond: {status: 203}}}]}
`}
	putCert(t, files, "a", servers.Issue(t, nil, "*.example.com", "x.inner.example.com"))
	good, bad := ours.Issue(t, nil), testcerts.NewAuthority(t, "foreign").Issue(t, nil)
	h := open(t, files, Options{})
	ask := func(listener, sni, host string, c *testcerts.Cert, want string) {
		t.Helper()
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			client := &tls.Config{ServerName: sni, RootCAs: servers.Pool(), MaxVersion: version}
			if c != nil {
				cert := c.TLS()
				client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
			}
			got, _ := h.ask(listener, host, client)
			if want == "refused" && !strings.HasPrefix(got, "HTTP") {
				continue
			}
			if !strings.HasPrefix(got, "HTTP/2.0 "+want) {
				t.Errorf("%s at %s as %s: %s, not %s", host, listener, sni, got, want)
			}
		}
	}
	ask("mixed", "open.example.com", "open.example.com", nil, "201")
	ask("mixed", "open.example.com", "open.example.com", good, "201")
	ask("mixed", "open.example.com", "open.example.com", bad, "refused")
	ask("mixed", "inner.example.com", "inner.example.com", nil, "refused")
	ask("mixed", "inner.example.com", "inner.example.com", bad, "refused")
	ask("mixed", "inner.example.com", "inner.example.com", good, "202")
	ask("mixed", "x.inner.example.com", "x.inner.example.com:443", good, "202")
	ask("mixed", "inner.example.com", "other.example.com", good, "203") // the same policy
	ask("mixed", "inner.example.com", "open.example.com", good, "201")
	ask("mixed", "open.example.com", "inner.example.com", nil, "421")
	ask("mixed", "open.example.com", "inner.example.com", good, "421")
	ask("mixed", "nobody.example.com", "inner.example.com", good, "421")
	ask("closed", "open.example.com", "inner.example.com", good, "202") // all need one there
	ask("closed", "open.example.com", "open.example.com", nil, "refused")

	// A connection from before a service had that demand does not reach it.
	text := files["limpet.yaml"]
	relaxed := strings.Replace(text, "name: inner, clientCertificates: required", "name: inner", 1)
	if _, err := h.rewrite(relaxed); err != nil {
		t.Fatal(err)
	}
	kept := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{ServerName: "inner.example.com", RootCAs: servers.Pool()}, ForceAttemptHTTP2: true}}
	defer kept.CloseIdleConnections()
	status := func(want int) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+h.at["mixed"], nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = "inner.example.com"
		res, err := kept.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("status %d, not %d", res.StatusCode, want)
		}
	}
	status(202)
	if _, err := h.rewrite(text); err != nil {
		t.Fatal(err)
	}
	status(421)
}

// Who asks the store of a listener gets no policy of another one.
func TestTLSPolicyShared(t *testing.T) {
	a := testcerts.NewAuthority(t, "test")
	files := map[string]string{"limpet.yaml": "tls: {certificate: a.crt, key: a.key}\n" + teapot}
	putCert(t, files, "a", a.Issue(t, nil, "a.example.com"))
	dir := testfiles.Write(t, files)
	f, err := Load(t.Context(), filepath.Join(dir, "limpet.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var policies []*certs.Policy
	for range 2 {
		rt, err := f.Build(Options{})
		if err != nil {
			t.Fatal(err)
		}
		policies = append(policies, rt.listeners[0].certs.Load().Policy())
	}
	if policies[0] != policies[1] {
		t.Error("certificates were read twice for one file")
	}
}

// A listener or a service that demands certificates does so for connections
// from before as well, which have none: also if the listener was removed.
func TestDemandOfOpenConnections(t *testing.T) {
	t.Parallel()
	servers, ours := testcerts.NewAuthority(t, "servers"), testcerts.NewAuthority(t, "ours")
	good := ours.Issue(t, nil).TLS()
	const (
		head = "process: {drain: {idle: 10m}}\nlisteners:\n"
		cert = "certificate: a.crt, key: a.key"
		asks = ", clientCertificates: {ca: [ca.pem], mode: optional}"
		must = ", clientCertificates: {ca: [ca.pem]}"
		one  = "httpSecurity: [{name: all, action: {respond: {status: 202}}}]\n"
	)
	listener := func(name, more string) string {
		return fmt.Sprintf("  - {name: %s, address: '127.0.0.1:0', tls: {%s%s}}\n", name, cert, more)
	}
	services := func(more string) string {
		return "services: [{name: s, hosts: [a.example.com]" + more + ", httpSecurity: [{name: all, action: {respond: {status: 202}}}]}]\n"
	}
	plain := "  - {name: a, address: '127.0.0.1:0'}\n"
	for _, c := range []struct {
		name, before, after string
		bare, proven        string // answers on a connection without a certificate, and with one
		last                bool   // the first is the last of its connection
	}{
		{"listener, one service", listener("a", asks) + one, listener("a", must) + one, "421", "202", true},
		{"listener, services", listener("a", asks) + services(""), listener("a", must) + services(""), "421", "202", true},
		{"service", listener("a", asks) + services(""), listener("a", asks) + services(", clientCertificates: required"), "421", "202", false},
		{"service, listener removed", listener("a", asks) + listener("b", asks) + services(""), listener("b", asks) + services(", clientCertificates: required"), "421", "202", true},
		{"demand ends", listener("a", asks) + services(", clientCertificates: required"), listener("a", asks) + services(""), "202", "202", false},
		{"plain before", plain + one, listener("a", must) + one, "421", "", true},
		{"plain before, services", plain + services(""), listener("a", must) + services(""), "421", "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := map[string]string{"ca.pem": ours.PEM(), "limpet.yaml": head + c.before}
			putCert(t, files, "a", servers.Issue(t, nil, "a.example.com"))
			s := serve(t, files, Options{})
			address := s.addrs("a")[0].String()
			dial := func(certs ...tls.Certificate) (conn net.Conn, r *bufio.Reader) {
				t.Helper()
				var err error
				if c.proven == "" {
					conn, err = net.Dial("tcp", address)
				} else {
					name := "a.example.com"
					if certs == nil {
						name = "other.example.com" // for which the service demands nothing
					}
					conn, err = tls.Dial("tcp", address, &tls.Config{ServerName: name, InsecureSkipVerify: true, Certificates: certs})
				}
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { conn.Close() })
				return conn, bufio.NewReader(conn)
			}
			ask := func(conn net.Conn, r *bufio.Reader) *http.Response {
				t.Helper()
				_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n")
				if err != nil {
					t.Fatal(err)
				}
				res, err := http.ReadResponse(r, nil)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, res.Body)
				return res
			}
			conn, r := dial()
			proven, p := dial(good)
			if got := ask(proven, p).Status[:3]; got != "202" {
				t.Fatalf("before: %s", got)
			}
			if c.name != "demand ends" {
				if got := ask(conn, r).Status[:3]; got != "202" {
					t.Fatalf("before, without a certificate: %s", got)
				}
			}
			s.must(head + c.after)
			// A listener that was removed asks clients to go in the background.
			if res := ask(conn, r); res.Status[:3] != c.bare || res.Close != c.last && !strings.HasSuffix(c.name, "removed") {
				t.Errorf("without a certificate: %s, the last %t", res.Status, res.Close)
			}
			if c.proven == "" {
				return
			}
			if got := ask(proven, p).Status[:3]; got != c.proven {
				t.Errorf("with a certificate: %s", got)
			}
		})
	}
}
