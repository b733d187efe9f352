package config

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet/internal/testcerts"
)

// A desk is an Issuer whose certificates the test makes.
type desk struct {
	mu        sync.Mutex
	wanted    []ACME
	managed   int // calls
	runs      chan struct{}
	certs     map[string]*tls.Certificate // by authority and name
	challenge *tls.Certificate
}

func newDesk() *desk {
	return &desk{runs: make(chan struct{}), certs: map[string]*tls.Certificate{}}
}

func (d *desk) Manage(all []ACME, _ *slog.Logger) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wanted, d.managed = all, d.managed+1
}

func (d *desk) Run(ctx context.Context) error {
	close(d.runs)
	<-ctx.Done()
	return nil
}

func (d *desk) Certificate(authority, name string) *tls.Certificate {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.certs[authority+" "+name]
}

func (d *desk) issue(authority, name string, c *testcerts.Cert) {
	d.mu.Lock()
	defer d.mu.Unlock()
	made := c.TLS()
	d.certs[authority+" "+name] = &made
}

func (d *desk) TLSChallenge(name string) *tls.Certificate {
	if name == "asked.example.com" {
		return d.challenge
	}
	return nil
}

func (d *desk) HTTPChallenge(w http.ResponseWriter, r *http.Request) bool {
	if r.URL.Path != "/.well-known/acme-challenge/token" {
		return false
	}
	io.WriteString(w, "answer")
	return true
}

// What a file says of authorities and names is what the issuer gets.
func TestACME(t *testing.T) {
	authority := testcerts.NewAuthority(t, "directory")
	full := ACME{
		Name: "le", Directory: letsEncrypt, KeyType: "p256", Challenges: []string{"tls-alpn-01"}, Names: []string{"a.example.com"},
	}
	with := func(change func(a *ACME)) []ACME {
		a := full
		change(&a)
		return []ACME{a}
	}
	for name, c := range map[string]struct {
		text string
		want []ACME
	}{
		"one listener": {
			"acme: [{name: le, agree: true}]\ntls: {acme: le, names: [A.Example.com]}\n" + teapot, []ACME{full},
		},
		"hosts, and a listener without tls": {`
acme: [{name: le, agree: true}, {name: unused, agree: true}]
listeners: [{name: one, address: ":0"}, {name: two, address: ":0", tls: {acme: le}}]
services:
  - {name: a, hosts: [B.example.com, a.example.com], httpSecurity: [{name: all, action: close}]}
  - {name: b, hosts: [c.example.com], listeners: [one], httpSecurity: [{name: all, action: close}]}
`, with(func(a *ACME) {
			a.Challenges, a.Names = []string{"tls-alpn-01", "http-01"}, []string{"a.example.com", "b.example.com"}
		})},
		"all": {`
acme:
  - name: le
    directory: https://ca.example.com/dir
    ca: ca.pem
    email: admin@example.com
    agree: true
    eab: {id: kid, key: "_-8="}
    storage: /var/acme
    keyType: rsa4096
    challenges: [http-01]
listeners:
  - {name: one, address: ":0"}
  - {name: two, address: ":0", tls: {certificates: [{acme: le, names: [a.example.com, "2001:DB8::1"]}]}}
  - {name: three, address: ":0", tls: {certificates: [{acme: le, names: [192.0.2.1, a.example.com]}]}}
` + teapot, with(func(a *ACME) {
			a.Directory, a.CA, a.Email = "https://ca.example.com/dir", []byte(authority.PEM()), "admin@example.com"
			a.EABID, a.EABKey, a.Storage, a.KeyType = "kid", []byte{255, 239}, "/var/acme", "rsa4096"
			a.Challenges, a.Names = []string{"http-01"}, []string{"192.0.2.1", "2001:db8::1", "a.example.com"}
		})},
	} {
		t.Run(name, func(t *testing.T) {
			f, errs := loaded(t, map[string]string{"limpet.yaml": c.text, "ca.pem": authority.PEM()}, "limpet.yaml")
			if errs != "" {
				t.Fatal(errs)
			}
			d := newDesk()
			if _, err := f.Build(Options{Issuer: d}); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, d.wanted); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if warnings := fmt.Sprint(f.Warnings()); strings.Contains(warnings, "acme[1]: no certificate of a listener names this") != strings.Contains(c.text, "unused") {
				t.Error(warnings)
			}
			if _, err := f.Build(Options{}); err == nil || !strings.Contains(err.Error(), "acme: this program gets no certificates by ACME") {
				t.Errorf("without an issuer: %v", err)
			}
			if _, err := f.Build(Options{Offline: true}); err != nil {
				t.Errorf("offline: %v", err)
			}
		})
	}
}

// Each fault of acme has its place, its value and its reason; none shows a key.
func TestACMEFaults(t *testing.T) {
	const le = "acme: [{name: le, agree: true}]\n"
	for _, c := range []struct{ text, want string }{
		{"acme: [{name: le}]\ntls: {acme: le, names: [a.b]}\n", "1:8: acme[0].agree: must be true"},
		{"acme: [{name: le, agree: true}, {name: le, agree: true}]\ntls: {acme: le, names: [a.b]}\n", `acme[1].name: "le" is empty or taken`},
		{"acme: [{agree: true}]\n", `acme[0].name: "" is empty or taken`},
		{"acme: [{name: le, agree: true, directory: \"http://ca/\"}]\ntls: {acme: le, names: [a.b]}\n", `acme[0].directory: "http://ca/": not a URL that begins with https://`},
		{"acme: [{name: le, agree: true, email: nobody}]\ntls: {acme: le, names: [a.b]}\n", `acme[0].email: "nobody": not the address of a mailbox`},
		{"acme: [{name: le, agree: true, ca: none.pem}]\ntls: {acme: le, names: [a.b]}\n", `acme[0].ca: open DIR/none.pem: no such file`},
		{"acme: [{name: le, agree: true, ca: limpet.yaml}]\ntls: {acme: le, names: [a.b]}\n", `acme[0].ca: limpet.yaml: no certificate in PEM`},
		{"acme: [{name: le, agree: true, eab: {key: AAAA}}]\ntls: {acme: le, names: [a.b]}\n", `acme[0].eab.id: want the identifier`},
		{"acme: [{name: le, agree: true, eab: {id: a, key: \"TOPSECRET!\"}}]\ntls: {acme: le, names: [a.b]}\n", `acme[0].eab.key: want a key in base64`},
		{"acme: [{name: le, agree: true, keyType: p512}]\ntls: {acme: le, names: [a.b]}\n", `acme[0].keyType: "p512" is not one of p256, p384, rsa2048, rsa4096`},
		{"acme: [{name: le, agree: true, challenges: [dns-01]}]\ntls: {acme: le, names: [a.b]}\n", `"dns-01" is not one of tls-alpn-01, http-01`},
		{"acme: [{name: le, agree: true, challenges: [http-01]}]\ntls: {acme: le, names: [a.b]}\n", `acme[0].challenges[0]: "http-01": needs a listener without tls`},
		{"acme: [{name: le, agree: true, challenges: [tls-alpn-01, tls-alpn-01]}]\ntls: {acme: le, names: [a.b]}\n", `acme[0].challenges[1]: "tls-alpn-01": given twice`},
		{le + "tls: {acme: el, names: [a.b]}\n", `tls.acme: acme "el" not found; did you mean "le"?`},
		{le + "tls: {certificates: [{acme: lee, names: [a.b]}]}\n", `tls.certificates[0].acme: acme "lee" not found; did you mean "le"?`},
		{le + "tls: {acme: le}\n", `tls.acme: "le": want names, since no service at the listener has hosts`},
		{le + "tls: {acme: le, names: []}\n", `tls.names: an empty list`},
		{le + "tls: {names: [a.b]}\n", `tls.names: without effect: they are for acme`},
		{le + "tls: {acme: le, names: [a.b], certificate: a.crt}\n", `tls.acme: "le": beside files`},
		{le + "tls: {acme: le, names: [\"*.example.com\"]}\n", `tls.names[0]: "*.example.com": authorities check names with * by the challenge DNS-01 only, which limpet does not answer`},
		{le + "tls: {acme: le, names: [a.b, A.b]}\n", `tls.names[1]: "a.b" has a certificate from acme "le" already`},
		{le + "tls: {acme: le, names: [\"fe80::1%eth0\"]}\n", `without a zone`},
		{le + "tls: {acme: le, names: [\"a b\"]}\n", `tls.names[0]: "a b"`},
		{le + "tls: {acme: le, names: [a_b.example.com]}\n", `no authority issues a certificate for such a name`},
		{le + "tls: {acme: le, names: [a.b], default: c.b}\n", `no certificate has the name "c.b"; did you mean "a.b"?`},
		{le + "listeners: [{name: https, address: \":0\", tls: {acme: le}}]\nservices: [{name: a, hosts: [\"*.example.com\"]}]\n", `listeners[0].tls.acme: "*.example.com": authorities check names with *`},
	} {
		text := c.text
		if !strings.Contains(text, "services:") {
			text += teapot
		}
		_, errs := loaded(t, map[string]string{"limpet.yaml": text}, "limpet.yaml")
		if !strings.Contains(errs, c.want) || strings.Contains(errs, "TOPSECRET") || strings.Count(errs, "\n") > 0 {
			t.Errorf("%s: %s, not %s", c.text, errs, c.want)
		}
	}
}

// Clients get the certificate of the name that they ask for; until there is
// one, only they fail. Challenges are answered before all rules, and their
// connections carry no requests, whatever certificates clients need.
func TestACMEHandshakes(t *testing.T) {
	a := testcerts.NewAuthority(t, "test")
	files := map[string]string{"limpet.yaml": `
acme: [{name: le, agree: true}]
listeners:
  - {name: plain, address: "127.0.0.1:0"}
  - name: secure
    address: "127.0.0.1:0"
    tls:
      certificates: [{acme: le, names: [one.example.com, two.example.com, wild.below.example.com]}, {certificate: file.crt, key: file.key}]
  - {name: clients, address: "127.0.0.1:0", tls: {certificate: file.crt, key: file.key, clientCertificates: {ca: [ca.pem]}}}
httpSecurity: [{name: all, action: close}]
`, "ca.pem": a.PEM()}
	putCert(t, files, "file", a.Issue(t, nil, "file.example.com", "*.below.example.com"))
	d := newDesk()
	challenge := a.Issue(t, nil, "asked.example.com").TLS()
	d.challenge = &challenge
	s := serve(t, files, Options{Issuer: d})
	<-d.runs
	names := func(listener, sni string, protocols ...string) string {
		t.Helper()
		conn, err := (&tls.Dialer{Config: &tls.Config{ServerName: sni, InsecureSkipVerify: true, NextProtos: protocols}}).DialContext(t.Context(), "tcp", s.addrs(listener)[0].String())
		if err != nil {
			return err.Error()
		}
		defer conn.Close()
		return strings.Join(conn.(*tls.Conn).ConnectionState().PeerCertificates[0].DNSNames, " ")
	}
	expect := func(sni, want string) {
		t.Helper()
		if got := names("secure", sni); !strings.Contains(got, want) {
			t.Errorf("%q: %s, not %s", sni, got, want)
		}
	}
	const file = "file.example.com *.below.example.com"
	expect("one.example.com", "unrecognized name")
	expect("file.example.com", file)
	expect("wild.below.example.com", file) // better than none
	expect("", file)
	d.issue("le", "one.example.com", a.Issue(t, nil, "one.example.com"))
	d.issue("le", "wild.below.example.com", a.Issue(t, nil, "wild.below.example.com"))
	expect("One.example.com", "one.example.com")
	expect("two.example.com", "unrecognized name")
	expect("wild.below.example.com", "wild.below.example.com")
	expect("other.example.com", "one.example.com") // the first one
	expect("", "one.example.com")

	for _, listener := range []string{"secure", "clients"} {
		if got := names(listener, "asked.example.com", "acme-tls/1"); got != "asked.example.com" {
			t.Errorf("TLS-ALPN-01 at %s: %s", listener, got)
		}
		if got := names(listener, "file.example.com", "acme-tls/1"); !strings.Contains(got, "no application protocol") {
			t.Errorf("TLS-ALPN-01 at %s for a name that nobody asks for: %s", listener, got)
		}
		conn, err := tls.Dial("tcp", s.addrs(listener)[0].String(), &tls.Config{ServerName: "asked.example.com", InsecureSkipVerify: true, NextProtos: []string{"acme-tls/1"}})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		io.WriteString(conn, "GET /.well-known/acme-challenge/token HTTP/1.1\r\nHost: a\r\n\r\n")
		if text, _ := io.ReadAll(conn); len(text) > 0 {
			t.Errorf("a request on the connection of a challenge at %s: %q", listener, text)
		}
	}
	answer := func(path string) string {
		conn, err := net.Dial("tcp", s.addrs("plain")[0].String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: a\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return "closed"
		}
		defer res.Body.Close()
		text, _ := io.ReadAll(res.Body)
		return string(text)
	}
	if got := answer("/.well-known/acme-challenge/token"); got != "answer" {
		t.Errorf("HTTP-01: %s", got)
	}
	if got := answer("/.well-known/acme-challenge/other"); got != "closed" {
		t.Errorf("another path: %s", got)
	}

	// A reload says what there is to manage then.
	s.must(strings.Replace(files["limpet.yaml"], "two.example.com, ", "", 1))
	if d.managed != 2 || !slices.Equal(d.wanted[0].Names, []string{"one.example.com", "wild.below.example.com"}) {
		t.Errorf("%d calls, at last for %v", d.managed, d.wanted)
	}
	expect("two.example.com", "one.example.com")
}
