package policy

import (
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeTx is a Transaction that records what was done to it.
type fakeTx struct {
	client, source, local netip.AddrPort
	request               *http.Request
	status                int
	header                http.Header
	body                  string
	closed, reset         bool
	calls                 int

	sent      *http.Request // what EditRequest gave out; nil: not edited
	pool      string
	server    netip.AddrPort
	selected  int
	answer    http.Header // of the server's response; nil: none yet
	answered  int
	requestID string
}

func (t *fakeTx) EditRequest() *http.Request {
	if t.sent == nil {
		sent := *t.request // as limpet.Transaction does: the URL is shared
		sent.Header = t.request.Header.Clone()
		t.sent = &sent
	}
	return t.sent
}

func (t *fakeTx) SelectPool(pool string, addr netip.AddrPort) {
	t.pool, t.server = pool, addr
	t.selected++
}

func (t *fakeTx) Response() (int, http.Header, bool) { return t.answered, t.answer, t.answer != nil }
func (t *fakeTx) RequestID() string                  { return t.requestID }

// response is what a server has answered.
func response(status int, headers ...string) func(*fakeTx) {
	return func(t *fakeTx) {
		t.answered, t.answer = status, http.Header{}
		for i := 0; i < len(headers); i += 2 {
			t.answer.Add(headers[i], headers[i+1])
		}
	}
}

func (t *fakeTx) Client() netip.AddrPort  { return t.client }
func (t *fakeTx) Source() netip.AddrPort  { return t.source }
func (t *fakeTx) Local() netip.AddrPort   { return t.local }
func (t *fakeTx) Original() *http.Request { return t.request }
func (t *fakeTx) Reply(status int, header http.Header, body []byte) {
	t.status, t.header, t.body = status, header, string(body)
	t.calls++
}
func (t *fakeTx) SelectLabel(string, string) {}
func (t *fakeTx) Encrypted() bool            { return t.request.TLS != nil }
func (t *fakeTx) Close(reset bool) {
	t.closed, t.reset = true, reset
	t.calls++
}

// newTx is a request from 192.0.2.1 to port 80; edits adapt it.
func newTx(method, target string, edits ...func(*fakeTx)) *fakeTx {
	t := &fakeTx{
		client:  netip.MustParseAddrPort("192.0.2.1:40000"),
		source:  netip.MustParseAddrPort("192.0.2.1:40000"),
		local:   netip.MustParseAddrPort("198.51.100.1:80"),
		request: httptest.NewRequest(method, target, nil),
	}
	for _, edit := range edits {
		edit(t)
	}
	return t
}

func header(name string, values ...string) func(*fakeTx) {
	return func(t *fakeTx) { t.request.Header[http.CanonicalHeaderKey(name)] = values }
}

func host(h string) func(*fakeTx) { return func(t *fakeTx) { t.request.Host = h } }

func client(addr string) func(*fakeTx) {
	return func(t *fakeTx) { t.client = netip.AddrPortFrom(netip.MustParseAddr(addr), 40000) }
}

func overTLS(t *fakeTx) { t.request.TLS = &tls.ConnectionState{} }

var errUnknownGroup = errors.New("unknown group")

// groups is an IPGroups of prefixes.
type groups map[string][]netip.Prefix

func (g groups) Contains(group string, addr netip.Addr) (bool, error) {
	prefixes, ok := g[group]
	if !ok {
		return false, errUnknownGroup
	}
	for _, p := range prefixes {
		if p.Contains(addr) {
			return true, nil
		}
	}
	return false, nil
}

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range list {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, a := range list {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

func mustHTTPSecurity(t testing.TB, env Env, rules ...SecurityRule) *HTTPSecurity {
	t.Helper()
	p, err := NewHTTPSecurity(rules, env)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mustNetworkSecurity(t testing.TB, env Env, rules ...NetworkRule) *NetworkSecurity {
	t.Helper()
	p, err := NewNetworkSecurity(rules, env)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// holds reports whether the match selects the request in a rule that ends it.
func holds(t testing.TB, m Match, tx *fakeTx) bool {
	t.Helper()
	v := mustHTTPSecurity(t, Env{}, SecurityRule{Name: "r", Match: m, Action: Close{}}).Evaluate(tx)
	if v.Err != nil {
		t.Fatal(v.Err)
	}
	return v.Ended
}

// allowed reports whether the match selects the request in an Allow rule.
func allowed(t testing.TB, m Match, tx *fakeTx) bool {
	t.Helper()
	v := mustHTTPSecurity(t, Env{}, SecurityRule{Name: "r", Match: m, Action: Allow{}}).Evaluate(tx)
	if v.Err != nil {
		t.Fatal(v.Err)
	}
	return v.Action == ActionAllow
}
