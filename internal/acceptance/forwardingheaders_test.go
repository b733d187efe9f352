package acceptance_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/policy"
)

// echoHeader is a server that notes the header of the latest request.
func echoHeader(t *testing.T, header *http.Header) *lbpool.Pool {
	return poolFor(t, func(w http.ResponseWriter, r *http.Request) {
		*header = r.Header.Clone()
		(*header)["Host"] = []string{r.Host}
	})
}

// What tells of the client is ours to say, unless a trusted proxy has said it.
func TestForwardingHeaderTable(t *testing.T) {
	t.Parallel()
	const peer = "127.0.0.1"
	none := []string(nil)
	var got http.Header
	pool := echoHeader(t, &got)
	_, open := serve(t, http1, limpet.Config{Pools: []*lbpool.Pool{pool}})
	_, trusting := serve(t, http1, limpet.Config{Pools: []*lbpool.Pool{pool}, Clients: limpet.Clients{TrustedProxies: loopback}})
	_, edited := serve(t, http1, limpet.Config{
		Pools: []*lbpool.Pool{pool}, Scripts: []limpet.Script{onRequest(t, "edit", `avi.http.add_header("X-Script", "1")`)},
	})
	for _, test := range []struct {
		header  string // of the client
		name    string // of a header that the server gets
		want    []string
		trusted []string // if the client is a trusted proxy
	}{
		{"X-A: 1", "X-Forwarded-For", []string{peer}, []string{peer}},
		{"X-A: 1", "X-Forwarded-Host", []string{"a"}, []string{"a"}},
		{"X-A: 1", "X-Forwarded-Proto", []string{"http"}, []string{"http"}},
		{"X-A: 1", "Forwarded", none, none},
		{"X-A: 1", "Host", []string{"a"}, []string{"a"}},
		{"X-A: 1", "Via", none, none},
		{"X-Forwarded-For: 192.0.2.1", "X-Forwarded-For", []string{peer}, []string{"192.0.2.1, " + peer}},
		{"X-Forwarded-For: 192.0.2.1, 192.0.2.2", "X-Forwarded-For", []string{peer}, []string{"192.0.2.1, 192.0.2.2, " + peer}},
		{"X-Forwarded-For: 192.0.2.1\nX-Forwarded-For: 192.0.2.2", "X-Forwarded-For", []string{peer}, []string{"192.0.2.1, 192.0.2.2, " + peer}},
		{"x-forwarded-for: junk", "X-Forwarded-For", []string{peer}, []string{"junk, " + peer}},
		{"X-Forwarded-Host: evil", "X-Forwarded-Host", []string{"a"}, []string{"evil"}},
		{"X-Forwarded-Host: b\nX-Forwarded-Host: c", "X-Forwarded-Host", []string{"a"}, []string{"b", "c"}},
		{"X-Forwarded-Proto: https", "X-Forwarded-Proto", []string{"http"}, []string{"https"}},
		{"Forwarded: for=192.0.2.1;proto=https", "Forwarded", none, []string{"for=192.0.2.1;proto=https"}},
		{"Forwarded: for=192.0.2.1\nForwarded: for=_x", "Forwarded", none, []string{"for=192.0.2.1", "for=_x"}},

		// Connection cannot remove them.
		{"Connection: X-Forwarded-For", "X-Forwarded-For", []string{peer}, []string{peer}},
		{"Connection: X-Forwarded-Host", "X-Forwarded-Host", []string{"a"}, []string{"a"}},
		{"Connection: x-forwarded-proto, close", "X-Forwarded-Proto", []string{"http"}, []string{"http"}},
		{"Connection: Host", "Host", []string{"a"}, []string{"a"}},
		{"Connection: close, X-Forwarded-For\nConnection: X-Forwarded-Proto", "X-Forwarded-Proto", []string{"http"}, []string{"http"}},

		// Headers that are for one hop end here.
		{"Connection: keep-alive", "Connection", none, none},
		{"Connection: close", "Connection", none, none},
		{"Connection: X-A\nX-A: 1", "X-A", none, none},
		{"Connection: upgrade\nUpgrade: other", "Upgrade", []string{"other"}, []string{"other"}},
		{"Connection: upgrade\nUpgrade: other", "Connection", []string{"Upgrade"}, []string{"Upgrade"}},
		{"Upgrade: other", "Upgrade", none, none},
		{"Keep-Alive: timeout=5", "Keep-Alive", none, none},
		{"Proxy-Connection: keep-alive", "Proxy-Connection", none, none},
		{"Proxy-Authorization: Basic Og==", "Proxy-Authorization", none, none},
		{"Proxy-Authenticate: Basic", "Proxy-Authenticate", none, none},
		{"Te: gzip", "Te", none, none},
		{"Te: trailers", "Te", []string{"trailers"}, []string{"trailers"}},
		{"Te: gzip, trailers;q=0.5", "Te", none, none},
		{"Trailer: X-Sum", "Trailer", none, none},

		// Others do not.
		{"Via: 1.1 b", "Via", []string{"1.1 b"}, []string{"1.1 b"}},
		{"X-Realms: 1", "X-Realms", []string{"1"}, []string{"1"}},
		{"X-Host-Id: 1", "X-Host-Id", []string{"1"}, []string{"1"}},
		{"X_A: 1", "X_a", []string{"1"}, []string{"1"}},
		{"Authorization: Basic Og==", "Authorization", []string{"Basic Og=="}, []string{"Basic Og=="}},
		{"Accept-Encoding: br", "Accept-Encoding", []string{"br"}, []string{"br"}},
		{"X-A: 1", "Accept-Encoding", none, none},
		{"X-A: 1", "User-Agent", none, none},
		{"X_forwarded_for: 192.0.2.1", "X-Forwarded-For", []string{peer}, []string{peer}},
		{"Cookie: a=1\nCookie: b=2", "Cookie", []string{"a=1", "b=2"}, []string{"a=1", "b=2"}},
		{"Range: bytes=0-1", "Range", []string{"bytes=0-1"}, []string{"bytes=0-1"}},
	} {
		for _, by := range []struct {
			name string
			site *site
			want []string
		}{{"a client", open, test.want}, {"a trusted proxy", trusting, test.trusted}, {"a client, with a script", edited, test.want}} {
			got = nil
			c := by.site.dial(t, "")
			res, err := http.ReadResponse(send(t, c, "GET / HTTP/1.1\nHost: a\n"+test.header+"\n\n"), nil)
			c.Close()
			if err != nil || res.StatusCode != 200 {
				t.Errorf("%q from %s: %v, %v", test.header, by.name, res, err)
			}
			if !slices.Equal(got[test.name], by.want) {
				t.Errorf("%q from %s: the server gets %s: %q, want %q", test.header, by.name, test.name, got[test.name], by.want)
			}
		}
	}
}

// What servers are told of the client may be replaced, appended to or added to,
// and go by another name.
func TestForwardedForModes(t *testing.T) {
	const xff = "X-Forwarded-For"
	for _, test := range []struct {
		name    string
		trusted []netip.Prefix
		edits   []policy.Edit
		header  string
		want    []string
	}{
		{"replaced", nil, nil, xff, []string{"127.0.0.1"}},
		{"appended to what a trusted proxy says", loopback, nil, xff, []string{"6.6.6.6, 192.0.2.9, 127.0.0.1"}},
		{"added", nil, []policy.Edit{policy.AddHeader{Name: xff, Value: "$source_ip"}}, xff, []string{"6.6.6.6, 192.0.2.9", "127.0.0.1"}},
		{"replaced by the client alone", loopback, []policy.Edit{policy.ReplaceHeader{Name: xff, Value: "$client_ip"}}, xff, []string{"192.0.2.9"}},
		{"by another name", loopback, []policy.Edit{policy.ReplaceHeader{Name: "True-Client-IP", Value: "$client_ip"}}, "True-Client-Ip", []string{"192.0.2.9"}},
		{"with the port of the service", nil, []policy.Edit{policy.ReplaceHeader{Name: "X-Port", Value: "$vs_port"}}, "X-Port", []string{"PORT"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got http.Header
			cfg := limpet.Config{Pools: []*lbpool.Pool{echoHeader(t, &got)}, Clients: limpet.Clients{TrustedProxies: test.trusted}}
			if test.edits != nil {
				cfg.HTTPRequest = []policy.RequestRule{{Name: "tell", Action: policy.Modify{Edits: test.edits}}}
			}
			_, site := serve(t, http1, cfg)
			r := newRequest(t, "GET", site.URL, nil)
			r.Header.Set(xff, "6.6.6.6, 192.0.2.9")
			fetch(t, site.client(t), r)
			if test.want[0] == "PORT" {
				_, test.want[0], _ = net.SplitHostPort(site.Addr)
			}
			if !slices.Equal(got[test.header], test.want) {
				t.Errorf("%s: %q, want %q", test.header, got[test.header], test.want)
			}
		})
	}
}

// No client can have a header removed, or doubled, that somebody on this side
// has set.
func TestConnectionTricks(t *testing.T) {
	names := []string{"X-Real-Ip", "Authorization", "X-Script", "X-Policy", "X-Outer", "X_underscore", "Cookie"}
	var got http.Header
	vs := newVirtualService(t, limpet.Config{
		Pools: []*lbpool.Pool{echoHeader(t, &got)},
		Policies: limpet.Policies{HTTPRequest: []policy.RequestRule{{Name: "set", Action: policy.Modify{Edits: []policy.Edit{
			policy.ReplaceHeader{Name: "X-Policy", Value: "set"}, policy.ReplaceHeader{Name: "X-Real-Ip", Value: "set"},
		}}}}},
		Scripts: []limpet.Script{onRequest(t, "set", `
for _, name in ipairs({"X-Script", "Authorization", "X_underscore"}) do avi.http.replace_header(name, "set") end
avi.http.replace_header("Cookie", "set")
`)},
	})
	s := startSite(t, http1, listen(t, ""), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Set("X-Outer", "set") // as a middleware around it might
		vs.ServeHTTP(w, r)
	}))
	var tricks []string
	for _, name := range append(names, "x-script , X-POLICY", "close, "+strings.Join(names, ","), "\t"+strings.Join(names, "\t,,\t")) {
		tricks = append(tricks, "Connection: "+name)
	}
	tricks = append(tricks,
		"X-A: 1", "Connection: upgrade, X-Script\nUpgrade: other", "Connection:", "Connection: ,", "Connection: connection",
		"Connection: X-Script\nConnection: X-Policy\nConnection: Authorization", "Connection: \"X-Script\"", "Connection: X-Script;q=1",
		"Proxy-Connection: X-Script", "connection: X-Script\nCONNECTION: X-Policy", "Connection: Host, Content-Length, Transfer-Encoding",
		"Connection: "+strings.Repeat("X-Script,", 1000), "X-Script: client\nX-Script: twice", "X_Script: 1\nX-Policy:", "Trailer: X-Script",
	)
	for _, trick := range tricks {
		for _, sent := range []string{"", "X-Script: client\nX-Policy: client\nAuthorization: client\nX-Real-Ip: client\nX_underscore: client\n"} {
			got = nil
			c := s.dial(t, "")
			res, err := http.ReadResponse(send(t, c, fmt.Sprintf("GET / HTTP/1.1\nHost: a\n%s%s\n\n", sent, trick)), nil)
			c.Close()
			if err != nil || res.StatusCode != 200 {
				t.Errorf("%.60q: %v, %v", trick, res, err)
				continue
			}
			for _, name := range names {
				// What was there before us cannot be distinguished from what
				// the client has sent.
				outer := name == "X-Outer" && strings.Contains(trick, "X-Outer")
				if !outer && !slices.Equal(got[name], []string{"set"}) {
					t.Errorf("%.60q: the server gets %s: %q", trick, name, got[name])
				}
			}
		}
	}
}

// Only trusted proxies may say where a request comes from, whatever the name of
// the header is, and in trailers nobody may. Names that servers could take for
// such a header, because they make the same variable of both, are for nobody.
func TestForwardingClaims(t *testing.T) {
	t.Parallel()
	var header, trailer http.Header
	pool := poolFor(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		header, trailer = r.Header.Clone(), r.Trailer.Clone()
	})
	const set = `for _, n in ipairs({N}) do avi.http.replace_header(n, "script") end`
	claims := []string{
		"X-Real-IP", "True-Client-IP", "CF-Connecting-IP", "X-Client-IP", "Client-IP", "X-Cluster-Client-IP", "Fastly-Client-IP",
		"X-Forwarded", "X-Forwarded-Port", "X-Forwarded-Server", "X-Forwarded-Prefix", "X-Forwarded-Ssl", "X-Forwarded-Scheme", "X-Forwarded-Uri",
		"X-Forwarded-By", "X-Forwarded-Protocol", "X-Forwarded-Method", "X-Forwarded-Client-Cert", "X-Forwarded-User", "X-Original-URL", "X-Rewrite-URL",
		"X-Original-Host", "X-Original-Forwarded-For", "X-Host", "Front-End-Https", "X-Scheme", "Proxy",
	}
	alike := []string{
		"X_Forwarded_For", "X_Forwarded-For", "X-Forwarded_For", "x_forwarded_host", "X_FORWARDED_PROTO", "X_Real_IP", "True_Client_IP", "X.Forwarded.For",
		"X_Original_URL", "X-Forwarded~Port", "CF_Connecting_IP",
	}
	var names []string
	for _, name := range slices.Concat(claims, alike) {
		names = append(names, fmt.Sprintf("%q", name))
	}
	edits := strings.ReplaceAll(set, "N", strings.Join(names, ", "))
	for _, test := range []struct {
		name                           string
		cfg                            limpet.Config
		script                         string
		claims, proxy, alike, trailers string // what the server gets, or nothing
	}{
		{"client", limpet.Config{}, "", "", "", "", ""},
		{"client, edited", limpet.Config{}, `avi.http.add_header("X-A", "1")`, "", "", "", ""},
		{"client, others passed", limpet.Config{Forwarding: limpet.Forwarding{Others: true}}, "", "client", "client", "", "client"},
		{"client, others passed, edited", limpet.Config{Forwarding: limpet.Forwarding{Others: true}}, `avi.http.add_header("X-A", "1")`, "client", "client", "", "client"},
		{"trusted proxy", limpet.Config{Clients: limpet.Clients{TrustedProxies: loopback}}, "", "client", "", "", "client"},
		{"script", limpet.Config{}, edits, "script", "script", "script", ""},
		{"script behind a trusted proxy", limpet.Config{Clients: limpet.Clients{TrustedProxies: loopback}}, edits, "script", "script", "script", "client"},
	} {
		test.cfg.Pools = []*lbpool.Pool{pool}
		if test.script != "" {
			test.cfg.Scripts = []limpet.Script{onRequest(t, "edits", test.script)}
		}
		_, site := serve(t, http1, test.cfg)
		for _, name := range slices.Concat(claims, alike) {
			header, trailer = nil, nil
			res, err := http.ReadResponse(send(t, site.dial(t, ""), "POST / HTTP/1.1\nHost: a\n"+name+": client\nTrailer: "+name+
				"\nTransfer-Encoding: chunked\nConnection: close\n\n0\n"+name+": client\nX-Kept: 1\n\n"), nil)
			if err != nil || res.StatusCode != 200 {
				t.Fatalf("%s, %s: %v, %v", test.name, name, res, err)
			}
			want, wantTrailer := test.claims, test.trailers
			switch {
			case slices.Contains(alike, name):
				want, wantTrailer = test.alike, ""
			case name == "Proxy":
				want = test.proxy
				if !test.cfg.Forwarding.Others {
					wantTrailer = ""
				}
			}
			if got := header.Get(name); got != want {
				t.Errorf("%s: the server gets %s: %q, want %q", test.name, name, got, want)
			}
			if got := trailer.Get(name); got != wantTrailer || trailer.Get("X-Kept") != "1" {
				t.Errorf("%s: the server gets the trailer %v, want %s: %q", test.name, trailer, name, wantTrailer)
			}
		}
		for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded", "x_forwarded_for"} {
			res, err := http.ReadResponse(send(t, site.dial(t, ""), "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\nConnection: close\n\n0\n"+name+": client\n\n"), nil)
			if err != nil || res.StatusCode != 200 || len(trailer) > 0 {
				t.Errorf("%s: the server gets the trailer %v", test.name, trailer)
			}
		}
	}
}

// What a script or a rule does to the headers about the client holds, and each
// of them can be turned off.
func TestForwardingSwitches(t *testing.T) {
	var got http.Header
	pool := echoHeader(t, &got)
	const xff, host, proto, client = "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-For: 192.0.2.1\nX-Forwarded-Host: b\nX-Forwarded-Proto: https\nForwarded: for=192.0.2.1"
	off, pass := limpet.Forwarding{For: limpet.ForwardOff, Host: limpet.ForwardOff, Proto: limpet.ForwardOff}, limpet.Forwarding{For: limpet.ForwardPass, Host: limpet.ForwardPass, Proto: limpet.ForwardPass}
	remove := func(names ...string) []policy.RequestRule {
		var edits []policy.Edit
		for _, name := range names {
			edits = append(edits, policy.RemoveHeader{Name: name})
		}
		return []policy.RequestRule{{Name: "removes", Action: policy.Modify{Edits: edits}}}
	}
	avi := limpet.Forwarding{Host: limpet.ForwardOff, Proto: limpet.ForwardOff}
	for _, test := range []struct {
		name   string
		cfg    limpet.Config
		script string
		header string
		want   http.Header
	}{
		{"default", limpet.Config{}, "", "X-A: 1", http.Header{xff: {"127.0.0.1"}, host: {"a"}, proto: {"http"}}},
		{"default, claims", limpet.Config{}, "", client, http.Header{xff: {"127.0.0.1"}, host: {"a"}, proto: {"http"}}},
		{"removed", limpet.Config{}, `avi.http.remove_header("X-Forwarded-Proto")`, "X-A: 1", http.Header{xff: {"127.0.0.1"}, host: {"a"}}},
		{"removed claim", limpet.Config{}, `avi.http.remove_header("X-Forwarded-Proto")`, client, http.Header{xff: {"127.0.0.1"}, host: {"a"}}},
		{"all removed", limpet.Config{}, `for _, n in ipairs({"Forwarded", "x-forwarded-for", "X-Forwarded-Host", "X-Forwarded-Proto"}) do avi.http.remove_header(n) end`, client, http.Header{}},
		{"removed by a rule", limpet.Config{Policies: limpet.Policies{HTTPRequest: remove(proto, host)}}, "", client, http.Header{xff: {"127.0.0.1"}}},
		{"removed by a rule, not sent", limpet.Config{Policies: limpet.Policies{HTTPRequest: remove(xff)}}, "", "X-A: 1", http.Header{host: {"a"}, proto: {"http"}}},
		{"removed and added", limpet.Config{}, `avi.http.remove_header("X-Forwarded-For") avi.http.add_header("X-Forwarded-For", "1")`, client, http.Header{xff: {"1"}, host: {"a"}, proto: {"http"}}},
		{"failed script", limpet.Config{}, `avi.http.remove_header("X-Forwarded-For") error("x")`, client, http.Header{xff: {"127.0.0.1"}, host: {"a"}, proto: {"http"}}},
		{"read", limpet.Config{}, `avi.http.add_header("X-Seen", tostring(avi.http.get_header("X-Forwarded-Proto")))`, "X-A: 1", http.Header{xff: {"127.0.0.1"}, host: {"a"}, proto: {"http"}, "X-Seen": {"nil"}}},
		{"read claim", limpet.Config{}, `avi.http.add_header("X-Seen", avi.http.get_header("X-Forwarded-Proto"))`, client, http.Header{xff: {"127.0.0.1"}, host: {"a"}, proto: {"http"}, "X-Seen": {"https"}}},
		{"off", limpet.Config{Forwarding: off}, "", client, http.Header{}},
		{"off, trusted", limpet.Config{Forwarding: off, Clients: limpet.Clients{TrustedProxies: loopback}}, "", client, http.Header{"Forwarded": {"for=192.0.2.1"}}},
		{"off, set by a script", limpet.Config{Forwarding: off}, `avi.http.add_header("X-Forwarded-Proto", "https")`, "X-A: 1", http.Header{proto: {"https"}}},
		{"off, replaced by a script", limpet.Config{Forwarding: off}, `avi.http.replace_header("X-Forwarded-Proto", "https")`, client, http.Header{proto: {"https"}}},
		{"as on Avi", limpet.Config{Forwarding: avi}, "", client, http.Header{xff: {"127.0.0.1"}}},
		{"pass", limpet.Config{Forwarding: pass}, "", client, http.Header{}},
		{"pass, trusted", limpet.Config{Forwarding: pass, Clients: limpet.Clients{TrustedProxies: loopback}}, "", client, http.Header{"Forwarded": {"for=192.0.2.1"}, xff: {"192.0.2.1"}, host: {"b"}, proto: {"https"}}},
		{"pass, trusted, nothing sent", limpet.Config{Forwarding: pass, Clients: limpet.Clients{TrustedProxies: loopback}}, "", "X-A: 1", http.Header{}},
		{"trusted", limpet.Config{Clients: limpet.Clients{TrustedProxies: loopback}}, `avi.http.add_header("X-A", "1")`, client, http.Header{"Forwarded": {"for=192.0.2.1"}, xff: {"192.0.2.1, 127.0.0.1"}, host: {"b"}, proto: {"https"}}},
	} {
		test.cfg.Pools = []*lbpool.Pool{pool}
		if test.script != "" {
			test.cfg.Scripts = []limpet.Script{failOpen(onRequest(t, "edits", test.script))}
		}
		_, site := serve(t, http1, test.cfg)
		res, err := http.ReadResponse(send(t, site.dial(t, ""), "GET / HTTP/1.1\nHost: a\n"+test.header+"\nConnection: close\n\n"), nil)
		if err != nil || res.StatusCode != 200 {
			t.Fatal(res, err)
		}
		for _, name := range []string{"Host", "X-A"} {
			got.Del(name)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: the server gets, - want + got\n%s", test.name, diff)
		}
	}
	if _, err := limpet.New(limpet.Config{Forwarding: limpet.Forwarding{Proto: 3}}); err == nil || !strings.Contains(err.Error(), "forwarding.proto: ") {
		t.Error(err)
	}
	if _, err := limpet.New(limpet.Config{Clients: limpet.Clients{ClientHeader: "X-Real-IP"}}); err == nil || !strings.Contains(err.Error(), "clientHeader: ") {
		t.Error(err)
	}
}

// A wrapped handler sees the client's headers, and no trace of how edits are
// found out.
func TestWrappedHandlersSeeNoMarks(t *testing.T) {
	var got http.Header
	vs := newVirtualService(t, limpet.Config{Scripts: []limpet.Script{onRequest(t, "edits", `avi.http.add_header("X-A", "1")`)}})
	site := startSite(t, http1, listen(t, ""), vs.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { got = r.Header.Clone() })))
	_, _ = http.ReadResponse(send(t, site.dial(t, ""), "GET / HTTP/1.1\nHost: a\nX-Real-IP: 1\nX-Forwarded-For: 2\n\n"), nil)
	if diff := cmp.Diff(http.Header{"X-A": {"1"}, "X-Real-Ip": {"1"}, "X-Forwarded-For": {"2"}}, got); diff != "" {
		t.Errorf("- want + got\n%s", diff)
	}
}
