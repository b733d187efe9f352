package policy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet/internal/httpfield"
)

func mustHTTPRequest(t testing.TB, env Env, rules ...RequestRule) *HTTPRequest {
	t.Helper()
	p, err := NewHTTPRequest(rules, env)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mustHTTPResponse(t testing.TB, env Env, rules ...ResponseRule) *HTTPResponse {
	t.Helper()
	p, err := NewHTTPResponse(rules, env)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func modify(edits ...Edit) RequestRule {
	return RequestRule{Name: "r", Action: Modify{Edits: edits}}
}

func TestRequestEdits(t *testing.T) {
	for _, c := range []struct {
		name  string
		edits []Edit
		want  http.Header // with the Host
	}{
		{"add", []Edit{AddHeader{"x-new", "1"}, AddHeader{"x-new", "2"}}, http.Header{"X-New": {"1", "2"}}},
		{"add beside", []Edit{AddHeader{"x-old", "2"}}, http.Header{"X-Old": {"a", "b", "2"}}},
		{"replace", []Edit{ReplaceHeader{"X-OLD", "2"}}, http.Header{"X-Old": {"2"}}},
		{"replace absent", []Edit{ReplaceHeader{"X-New", ""}}, http.Header{"X-New": {""}}},
		{"remove", []Edit{RemoveHeader{"x-old"}}, http.Header{"X-Old": nil}},
		{"host", []Edit{ReplaceHeader{"host", "internal.example:8080"}}, http.Header{"Host": {"internal.example:8080"}}},
		{"host of a client", []Edit{ReplaceHeader{"host", "${header:X-Evil}"}}, http.Header{"Host": {"example.com"}}},
		{"in order", []Edit{RemoveHeader{"X-Old"}, AddHeader{"X-Old", "c"}}, http.Header{"X-Old": {"c"}}},
		{"variables", []Edit{AddHeader{"X-New", "for=$client_ip;port=$vs_port ${vs_ip}x $$5 $5 $"}}, http.Header{"X-New": {"for=192.0.2.1;port=80 198.51.100.1x $5 $5 $"}}},
		{"request header", []Edit{AddHeader{"X-New", "${header:x-old}/${header:Host}"}}, http.Header{"X-New": {"a/example.com"}}},
		{"no value", []Edit{AddHeader{"X-New", "x$ssl_cipher"}, ReplaceHeader{"X-Old", "${header:X-None}"}}, http.Header{"X-New": nil, "X-Old": {"a", "b"}}},
		{"user", []Edit{AddHeader{"X-New", "$user_name"}}, http.Header{"X-New": nil}}, // a user with a line end
		{"request ID", []Edit{AddHeader{"X-New", "$request_id"}}, http.Header{"X-New": {"id-1"}}},
		{"add cookie", []Edit{AddCookie{"c", "$client_ip"}}, http.Header{"Cookie": {`a=1; b="x"; a=2; c=192.0.2.1`}}},
		{"replace cookie", []Edit{ReplaceCookie{"a", "3"}}, http.Header{"Cookie": {`b="x"; a=3`}}},
		{"remove cookie", []Edit{RemoveCookie{"a"}}, http.Header{"Cookie": {`b="x"`}}},
		{"remove all cookies", []Edit{RemoveCookie{"a"}, RemoveCookie{"b"}}, http.Header{"Cookie": nil}},
		{"cookie that ends itself", []Edit{AddCookie{"c", "${header:X-Evil}"}}, http.Header{"Cookie": {`a=1; b="x"`, "a=2"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			tx := newTx("GET", "/", header("X-Old", "a", "b"), header("Cookie", `a=1; b="x"`, "a=2"), header("X-Evil", "x; admin=1"))
			tx.request.SetBasicAuth("us\r\ner", "p")
			tx.requestID = "id-1"
			before := tx.request.Header.Clone()
			v := mustHTTPRequest(t, Env{}, modify(c.edits...)).Evaluate(tx)
			if v.Action != ActionModify || v.Ended || v.Rule != "r" {
				t.Fatalf("%+v", v)
			}
			got := tx.sent.Header
			got["Host"] = []string{tx.sent.Host}
			for name, want := range c.want {
				if diff := cmp.Diff(want, http.Header{name: got[name]}[name]); diff != "" {
					t.Errorf("%s: %s", name, diff)
				}
			}
			if diff := cmp.Diff(before, tx.request.Header); diff != "" || tx.request.Host != "example.com" {
				t.Errorf("the original has changed: %s", diff)
			}
		})
	}
}

func TestResponseEdits(t *testing.T) {
	for _, c := range []struct {
		name  string
		edits []Edit
		want  http.Header
	}{
		{"header", []Edit{RemoveHeader{"server"}, AddHeader{"x", "$vs_port"}}, http.Header{"Server": nil, "X": {"80"}}},
		{"add cookie", []Edit{AddCookie{"c", "1"}}, http.Header{"Set-Cookie": {"a=1; Secure; HttpOnly", "b=2", "a=3; Path=/x", "c=1; Path=/"}}},
		{"replace cookie keeps attributes", []Edit{ReplaceCookie{"a", "9"}}, http.Header{"Set-Cookie": {"b=2", "a=9; Secure; HttpOnly"}}},
		{"replace cookie without attributes", []Edit{ReplaceCookie{"b", "9"}}, http.Header{"Set-Cookie": {"a=1; Secure; HttpOnly", "a=3; Path=/x", "b=9"}}},
		{"replace cookie that is not there", []Edit{ReplaceCookie{"B", "9"}}, http.Header{"Set-Cookie": {"a=1; Secure; HttpOnly", "b=2", "a=3; Path=/x", "B=9; Path=/"}}},
		{"remove cookies", []Edit{RemoveCookie{"a"}, RemoveCookie{"b"}}, http.Header{"Set-Cookie": nil}},
	} {
		t.Run(c.name, func(t *testing.T) {
			tx := newTx("GET", "/", response(200, "Server", "x", "Set-Cookie", "a=1; Secure; HttpOnly", "Set-Cookie", "b=2", "Set-Cookie", "a=3; Path=/x"))
			v := mustHTTPResponse(t, Env{}, ResponseRule{Name: "r", Edits: c.edits}).Evaluate(tx)
			if v.Action != ActionModify || v.Ended {
				t.Fatalf("%+v", v)
			}
			for name, want := range c.want {
				if diff := cmp.Diff(want, tx.answer[name]); diff != "" {
					t.Errorf("%s: %s", name, diff)
				}
			}
		})
	}
}

func TestEditFaults(t *testing.T) {
	_, err := NewHTTPRequest([]RequestRule{modify(
		AddHeader{"Host", "x"}, RemoveHeader{"host"}, ReplaceHeader{"content-length", "1"}, RemoveHeader{"TE"}, AddHeader{"a b", "x"}, &RemoveHeader{"X"}, nil,
		AddHeader{"X", "a\r\nb"}, AddCookie{"c", "a;b"}, AddHeader{"X", "$nonsense"}, AddHeader{"X", "${client_ip"}, AddHeader{"X", "${header:a b}"},
	)}, Env{})
	want := []string{
		`rules[0].action.edits[0].name: "Host": cannot be edited so`,
		`rules[0].action.edits[1].name: "Host": cannot be edited so`,
		`rules[0].action.edits[2].name: "Content-Length": cannot be edited so`,
		`rules[0].action.edits[3].name: "Te": cannot be edited so`,
		`rules[0].action.edits[4].name: "a b": not a name`,
		`rules[0].action.edits[5]: *policy.RemoveHeader is not an edit; give the struct, not a pointer to it`,
		`rules[0].action.edits[6]: missing`,
		`rules[0].action.edits[7].value: has characters that cannot be sent`,
		`rules[0].action.edits[8].value: has characters that cannot be sent`,
		`rules[0].action.edits[9].value: $nonsense is not a variable; a dollar sign is written $$`,
		`rules[0].action.edits[10].value: a brace is not closed`,
		`rules[0].action.edits[11].value: "a b" is not a header name`,
	}
	if diff := cmp.Diff(want, lines(err)); diff != "" {
		t.Error(diff)
	}
}

func TestTLSVariables(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	template := &x509.Certificate{SerialNumber: big.NewInt(0xab12), Subject: pkix.Name{CommonName: "client", Organization: []string{"Acme"}}, NotBefore: begin, NotAfter: begin.AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	tx := newTx("GET", "/")
	tx.request.TLS = &tls.ConnectionState{Version: tls.VersionTLS13, CipherSuite: tls.TLS_AES_128_GCM_SHA256, ServerName: "sni.example", PeerCertificates: []*x509.Certificate{cert}}
	for name, want := range map[string]string{
		"ssl_protocol": "TLS 1.3", "ssl_cipher": "TLS_AES_128_GCM_SHA256", "ssl_server_name": "sni.example",
		"ssl_client_serial": "ab12", "ssl_client_issuer": "CN=client,O=Acme", "ssl_client_subject": "CN=client,O=Acme",
		"ssl_client_version": "3", "ssl_client_sigalg": "ECDSA-SHA256",
		"ssl_client_notvalidbefore": "2026-01-02T03:04:05Z", "ssl_client_notvalidafter": "2027-01-02T03:04:05Z",
		"source_ip": "192.0.2.1",
	} {
		if got, ok := expandText(t, "$"+name, tx); got != want || !ok {
			t.Errorf("$%s is %q, want %q", name, got, want)
		}
	}
	if got, _ := expandText(t, "$ssl_client_fingerprint", tx); len(got) != 40 || got != fingerprint(cert) {
		t.Errorf("%q", got)
	}
	raw, _ := expandText(t, "$ssl_client_raw", tx)
	escaped, _ := expandText(t, "$ssl_client_escaped", tx)
	if !strings.HasPrefix(raw, "-----BEGIN CERTIFICATE----- ") || !strings.HasPrefix(escaped, "-----BEGIN+CERTIFICATE-----%0A") {
		t.Errorf("%.60q, %.60q", raw, escaped)
	}
	plain := newTx("GET", "/")
	plain.local, plain.client = netip.AddrPort{}, netip.AddrPort{}
	for name := range variables {
		if got, ok := expandText(t, "$"+name, plain); ok && name != "source_ip" {
			t.Errorf("$%s is %q without TLS, user or address", name, got)
		}
	}
}

func expandText(t *testing.T, source string, tx *fakeTx) (string, bool) {
	t.Helper()
	v, err := parseValue(source)
	if err != nil {
		t.Fatal(err)
	}
	return v.expand(tx)
}

// FuzzValue: what a value expands to can be sent, whatever its variables hold,
// and text without dollar signs is its own value.
func FuzzValue(f *testing.F) {
	f.Add("a $client_ip ${header:X}", "x")      // plain
	f.Add("$$client_ip$", "x\r\nSet-Cookie: y") // escapes, and a line end from outside
	f.Add("${header:X}${", "")                  // not closed
	f.Fuzz(func(t *testing.T, source, outside string) {
		v, err := parseValue(source)
		if err != nil {
			return
		}
		tx := newTx("GET", "/")
		tx.request.Header["X"] = []string{outside}
		got, ok := v.expand(tx)
		if !strings.Contains(source, "$") && (got != source || !ok) {
			t.Fatalf("%q became %q", source, got)
		}
		if ok && httpfield.IsValue(source) && !httpfield.IsValue(got) {
			t.Fatalf("%q with %q became %q", source, outside, got)
		}
	})
}
