package admin

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/testcerts"
	"github.com/limpetlb/limpet/internal/testwait"
)

// TestAttacks: what other sites make browsers send, and callers without the
// right to it, changes nothing, and is not audited as done.
func TestAttacks(t *testing.T) {
	b := newBench(t, setup{})
	patch := shop + "/pools/web/servers/web-2"
	const disable = `{"state":"disabled"}`
	host := func(name string) func(*http.Request) { return func(r *http.Request) { r.Host = name } }
	none := func(r *http.Request) { r.Header.Del("Authorization") }
	for _, tc := range []struct {
		name, method, path, body string
		role                     Role
		edits                    []func(*http.Request)
		status                   int
		code                     string
	}{
		{"foreign host", "PATCH", patch, disable, Operate, []func(*http.Request){host("evil.example")}, 421, codeHost},
		{"foreign host of a reading", "GET", "/v1/status", "", Read, []func(*http.Request){host("evil.example:9443")}, 421, codeHost},
		{"host like an address", "GET", "/v1/status", "", Read, []func(*http.Request){host("127.0.0.1.evil.example")}, 421, codeHost},
		{"no host", "GET", "/v1/status", "", Read, []func(*http.Request){host("localhost.evil")}, 421, codeHost},
		{"foreign origin", "PATCH", patch, disable, Operate, []func(*http.Request){header("Origin", "https://evil.example")}, 403, codeOrigin},
		{"null origin", "PATCH", patch, disable, Operate, []func(*http.Request){header("Origin", "null")}, 403, codeOrigin},
		{"cross-site", "PATCH", patch, disable, Operate, []func(*http.Request){header("Sec-Fetch-Site", "cross-site")}, 403, codeOrigin},
		{"same-site", "PATCH", patch, disable, Operate, []func(*http.Request){header("Sec-Fetch-Site", "same-site")}, 403, codeOrigin},
		{"profile for another site", "GET", "/debug/pprof/heap", "", Operate, []func(*http.Request){header("Sec-Fetch-Site", "cross-site")}, 403, codeOrigin},
		{"GET of a change", "GET", "/v1/config/reload", "", Operate, nil, 405, codeMethod},
		{"GET with a method in the query", "GET", patch + "?_method=PATCH", "", Operate, nil, 400, codeBadRequest},
		{"method in a header", "POST", patch, disable, Operate, []func(*http.Request){header("X-HTTP-Method-Override", "PATCH")}, 405, codeMethod},
		{"form", "POST", shop + "/entries/delete", "server=web-1&all=true", Operate, []func(*http.Request){header("Content-Type", "application/x-www-form-urlencoded")}, 415, codeMediaType},
		{"text", "POST", shop + "/entries/delete", `{"server":"web-1","all":true}`, Operate, []func(*http.Request){header("Content-Type", "text/plain")}, 415, codeMediaType},
		{"no type", "DELETE", "/v1/overrides", "", Operate, []func(*http.Request){func(r *http.Request) { r.Header.Del("Content-Type") }}, 415, codeMediaType},
		{"no token", "PATCH", patch, disable, Operate, []func(*http.Request){none}, 401, codeUnauthorized},
		{"no token for a reading", "GET", "/v1/status", "", Read, []func(*http.Request){none}, 401, codeUnauthorized},
		{"wrong scheme", "GET", "/v1/status", "", Read, []func(*http.Request){header("Authorization", "Basic "+testTokens[Read])}, 401, codeUnauthorized},
		{"two tokens", "GET", "/v1/status", "", Read, []func(*http.Request){func(r *http.Request) { r.Header.Add("Authorization", "Bearer x") }}, 401, codeUnauthorized},
		{"wrong role", "PATCH", patch, disable, Read, nil, 403, codeRole},
		{"wrong role for the source", "GET", "/v1/config/source", "", Operate, nil, 403, codeRole},
		{"revealing", "POST", shop + "/entries/query", `{"reveal":true}`, Operate, nil, 403, codeRole},
		{"scripts", "POST", shop + "/explain", `{"url":"http://x/","scripts":true}`, Read, nil, 403, codeRole},
		{"two slashes", "GET", "/v1//status", "", Read, nil, 404, codeNotFound},
		{"dots", "GET", "/debug/../v1/status", "", Read, nil, 404, codeNotFound},
		{"encoded dots", "GET", shop + "/pools/%2e%2e", "", Read, nil, 404, codeNoPool},
		{"encoded slash", "GET", shop + "/pools/web%2fservers%2fweb-1", "", Read, nil, 404, codeNoPool},
		{"slash at the end", "GET", "/v1/status/", "", Read, nil, 404, codeNotFound},
		{"NUL", "GET", shop + "/pools/%00", "", Read, nil, 404, codeNoPool},
		{"huge body", "POST", shop + "/entries/query", `{"prefix":"` + strings.Repeat("x", maxBody) + `"}`, Read, nil, 413, codeTooLarge},
		{"two values", "PATCH", patch, disable + disable, Operate, nil, 400, codeBadRequest},
		{"unknown field", "PATCH", patch, `{"state":"disabled","force":true}`, Operate, nil, 400, codeBadRequest},
		{"wrong type", "PATCH", patch, `{"state":1}`, Operate, nil, 400, codeBadRequest},
		{"no body", "PATCH", patch, "", Operate, nil, 400, codeBadRequest},
		{"null", "PATCH", patch, "null", Operate, nil, 400, codeBadRequest},
		{"not a number", "PATCH", patch, `{"state":"draining","timeout_seconds":-1}`, Operate, nil, 400, codeBadRequest},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := b.as(tc.role, tc.method, tc.path, tc.body, tc.edits...)
			if p := a.problem(); a.status != tc.status || p.Code != tc.code {
				t.Errorf("%d %s, not %d %s: %s", a.status, p.Code, tc.status, tc.code, a.body)
			}
			if a.header.Get("Cache-Control") != "no-store" || a.header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%v", a.header)
			}
		})
	}
	for _, s := range b.pool.Servers() {
		if !s.State().Usable() {
			t.Errorf("%s is %v", s.Name(), s.State())
		}
	}
	for _, v := range b.adm.changes.latest() {
		if v.Result == "done" {
			t.Errorf("audited as done: %+v", v)
		}
	}
	for _, name := range []string{"localhost", "127.0.0.1:80", "[::1]:80", "LB.example.net:9443"} {
		if a := b.as(Read, "GET", "/v1/status", "", host(name)); a.status != 200 {
			t.Errorf("host %s: %d %s", name, a.status, a.body)
		}
	}
}

// TestGuessing: after ten wrong tokens in a minute, an address is refused even
// with the right one.
func TestGuessing(t *testing.T) {
	b := newBench(t, setup{without: true})
	for i := range guessesPerMin {
		if a := b.send(b.client, b.tcp, "GET", "/v1/status", "", header("Authorization", fmt.Sprintf("Bearer guess%d", i))); a.status != 401 || a.header.Get("WWW-Authenticate") == "" {
			t.Fatalf("guess %d: %d %s", i, a.status, a.body)
		}
	}
	if a := b.as(Read, "GET", "/v1/status", ""); a.status != 429 || a.header.Get("Retry-After") == "" {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := b.do("GET", "/v1/status", ""); a.status != 200 {
		t.Errorf("the socket: %d %s", a.status, a.body)
	}
}

// TestReadOnly: every change is refused, and readings with POST are not.
func TestReadOnly(t *testing.T) {
	b := newBench(t, setup{without: true, admin: func(c *Config) { c.ReadOnly = true }})
	for _, rt := range routes {
		path := strings.NewReplacer("{vs}", "shop", "{pool}", "web", "{server}", "web-1", "{group}", "office", "{id}", "x").Replace(rt.pattern)
		if streams[rt.pattern] {
			continue
		}
		a := b.do(rt.method, path, map[bool]string{true: "{}"}[rt.method != "GET"])
		if got := a.problem().Code == codeReadOnly; got != rt.change {
			t.Errorf("%s %s: %d %s", rt.method, path, a.status, a.body)
		}
	}
}

// TestMounted: behind a login of the program, WithRole says who the caller is,
// whatever the host; and a socket of the program's own server is no login.
func TestMounted(t *testing.T) {
	b := newBench(t, setup{without: true})
	mux := http.NewServeMux()
	mux.Handle("/limpet/", http.StripPrefix("/limpet", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user := r.Header.Get("X-User"); user != "" {
			r = r.WithContext(WithRole(r.Context(), Operate, user))
		}
		b.adm.ServeHTTP(w, r)
	})))
	ln, err := net.Listen("unix", b.path+"2")
	must(t, err)
	srv := &http.Server{Handler: mux}
	go srv.Serve(ln)
	defer srv.Close()
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", b.path+"2")
	}}}
	defer c.CloseIdleConnections()
	ask := func(edits ...func(*http.Request)) answer {
		return b.send(c, "http://ops.example", "PATCH", "/limpet"+shop+"/pools/web/servers/web-1", `{"ratio":3}`, edits...)
	}
	if a := ask(header("X-User", "ann")); a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
	if got := b.adm.changes.latest()[0].Who; got != "ann" {
		t.Errorf("by %q", got)
	}
	if a := ask(header("X-User", "ann"), header("Origin", "https://evil.example")); a.problem().Code != codeOrigin {
		t.Errorf("another origin: %d %s", a.status, a.body)
	}
	if a := ask(); a.status != 421 {
		t.Errorf("without a login: %d %s", a.status, a.body)
	}
}

// TestClientCertificate: a certificate that the server has verified has a role.
func TestClientCertificate(t *testing.T) {
	b := newBench(t, setup{without: true, admin: func(c *Config) { c.ClientCertificates = Read }})
	ca := testcerts.NewAuthority(t, "clients")
	srv := httptest.NewUnstartedServer(b.adm)
	srv.Config = NewServer(b.adm)
	srv.TLS = &tls.Config{ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: ca.Pool()}
	srv.StartTLS()
	defer srv.Close()
	ask := func(method, path, body string, certs ...tls.Certificate) answer {
		transport := srv.Client().Transport.(*http.Transport).Clone()
		transport.TLSClientConfig.Certificates = certs
		defer transport.CloseIdleConnections()
		return b.send(&http.Client{Transport: transport}, srv.URL, method, path, body)
	}
	client := ca.Issue(t, func(c *x509.Certificate) {
		c.Subject.CommonName = "ann"
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}, "ann.example").TLS()
	if a := ask("GET", "/v1/status", ""); a.status != 401 {
		t.Errorf("no certificate: %d %s", a.status, a.body)
	}
	if a := ask("GET", "/v1/status", "", client); a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := ask("DELETE", "/v1/overrides", "", client); a.problem().Code != codeRole {
		t.Errorf("%d %s", a.status, a.body)
	}
	if got := b.adm.changes.latest()[0].Who; got != "certificate ann" {
		t.Errorf("by %q", got)
	}
}

// TestSlowBody: a body that does not come ends the request, and refused callers
// cannot keep it either.
func TestSlowBody(t *testing.T) {
	b := newBench(t, setup{without: true})
	b.adm.bodyTime = 20 * time.Millisecond
	for name, token := range map[string]string{"refused": "", "allowed": "Authorization: Bearer " + testTokens[Operate] + "\r\n"} {
		c, err := net.Dial("tcp", strings.TrimPrefix(b.tcp, "http://"))
		must(t, err)
		fmt.Fprintf(c, "POST %s/entries/query HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n%sContent-Length: 100\r\n\r\n{", shop, token)
		done := make(chan error, 1)
		go func() {
			_, err := io.Copy(io.Discard, c)
			done <- err
		}()
		testwait.Receive(t, done, "end of the connection: "+name)
		c.Close()
	}
}

// TestConnections: NewServer closes connections above its limit.
func TestConnections(t *testing.T) {
	b := newBench(t, setup{without: true})
	var open []net.Conn
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	for range maxConnections {
		c, err := net.Dial("unix", b.path)
		must(t, err)
		open = append(open, c)
		fmt.Fprint(c, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		must(t, err)
		resp.Body.Close()
	}
	c, err := net.Dial("unix", b.path)
	must(t, err)
	open = append(open, c)
	if _, err := io.ReadAll(c); err != nil && !strings.Contains(err.Error(), "reset") {
		t.Error(err)
	}
}

// TestConfig: faults of the configuration name their fields.
func TestConfig(t *testing.T) {
	_, err := New(Config{
		Tokens:     []Token{{}, {Name: "a", SHA256: [32]byte{1}, Role: 9}, {Name: "a", SHA256: [32]byte{1}, Role: Read}},
		SocketRole: 7, Hosts: []string{"a:80"},
	})
	for _, want := range []string{
		"services: missing", "tokens[0].name: missing", "tokens[0].sha256: missing", "tokens[0].role: missing", "tokens[1].role: 9",
		`tokens[2].name: "a": the name of tokens[1], too`, "socketRole: 7", `hosts[0]: "a:80"`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in\n%v", want, err)
		}
	}
}

// secrets are what nobody with the role Read may see.
var secrets = []string{"CANARY-cookie", "CANARY-authorization", "CANARY-key", "CANARY-value", "CANARY-query", "CANARY-header", "CANARY-log", "CANARY-body"}

// TestSecrets: no answer to the role Read has what clients keep secret.
func TestSecrets(t *testing.T) {
	b := newBench(t, setup{})
	_, err := b.tables.Insert(t.Context(), "", "CANARY-key", "CANARY-value", 1e12)
	must(t, err)
	for range 2 {
		b.visit("/denied?q=CANARY-query", header("Cookie", "a=CANARY-cookie"), header("Authorization", "CANARY-authorization"), header("X-Client", "CANARY-key"), header("X-Key", "CANARY-header"))
		b.visit("/?q=CANARY-query", header("Cookie", "a=CANARY-cookie"), header("X-Client", "CANARY-key"), header("X-Fail", "1"))
	}
	b.do("PUT", shop+"/entries", `{"key":"CANARY-key2","value":"CANARY-value2","lifetime_seconds":60}`)
	b.do("POST", shop+"/entries/delete", `{"key":"CANARY-key2"}`)
	testwait.Until(t, "records", func() bool {
		var page list[recordView]
		b.do("GET", shop+"/records", "").get(t, &page)
		return len(page.Items) == 4
	})
	for _, rq := range requests {
		method, pattern, _ := strings.Cut(rq.route, " ")
		i := slices.IndexFunc(routes, func(rt route) bool { return rt.method == method && rt.pattern == pattern })
		if routes[i].change {
			continue
		}
		a := b.as(Read, method, rq.path, rq.body)
		for _, secret := range secrets {
			if strings.Contains(a.body, secret) {
				t.Errorf("%s %s shows %s: %s", method, rq.path, secret, a.body)
			}
		}
	}
	var page list[entryView]
	b.as(Read, "POST", shop+"/entries/query", `{"key":"CANARY-key"}`).get(t, &page)
	if len(page.Items) != 1 || page.Items[0].Key != nil || page.Items[0].ValueHash == "" {
		t.Errorf("%+v", page)
	}
	b.as(Reveal, "POST", shop+"/entries/query", `{"id":"`+page.Items[0].ID+`","reveal":true}`).get(t, &page)
	if len(page.Items) != 1 || *page.Items[0].Key != "CANARY-key" || *page.Items[0].Value != "CANARY-value" {
		t.Errorf("%+v", page)
	}
}

// FuzzRoutes: whatever callers send, there is no panic, and no failure but 501
// and 503; each answer is one that is documented.
func FuzzRoutes(f *testing.F) {
	for _, rq := range requests {
		method, _, _ := strings.Cut(rq.route, " ")
		f.Add(method, rq.path, rq.body, "application/json", "") // one that is answered
	}
	f.Add("GET", shop+"/records?cursor=5&limit=3", "", "", "Accept: application/x-ndjson") // parameters
	f.Add("PATCH", shop+"/pools/web/servers/web-1", `{"state":"draining","timeout_seconds":1e308}`, "application/json", "If-Match: *")
	b := newBench(f, setup{without: true})
	b.adm.config.Reload = func(context.Context) ([]string, error) { return nil, &limpet.FieldError{Path: "x", Err: io.EOF} }
	f.Fuzz(func(t *testing.T, method, target, body, kind, line string) {
		r, err := http.NewRequestWithContext(WithRole(t.Context(), Reveal, "fuzz"), method, "http://x", strings.NewReader(body))
		if err != nil {
			return
		}
		if r.URL, err = r.URL.Parse(target); err != nil || streams[r.URL.Path] || strings.HasSuffix(r.URL.Path, "/logs") {
			return
		}
		r.Header.Set("Content-Type", kind)
		if name, value, ok := strings.Cut(line, ": "); ok {
			r.Header[http.CanonicalHeaderKey(name)] = []string{value}
		}
		w := httptest.NewRecorder()
		b.adm.ServeHTTP(w, r)
		if w.Code >= 500 && w.Code != 501 && w.Code != 503 {
			t.Fatalf("%s %s %s: %d %s", method, target, body, w.Code, w.Body)
		}
		if w.Header().Get("Content-Type") == "application/json" && !json.Valid(w.Body.Bytes()) {
			t.Fatalf("%s %s %s: %s", method, target, body, w.Body)
		}
	})
}
