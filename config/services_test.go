package config

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/testcerts"
	"github.com/limpetlb/limpet/internal/testfiles"
)

// A house is a runtime that serves from real sockets.
type house struct {
	*testing.T
	*Runtime
	dir   string
	at    map[string]string // addresses by listener
	end   context.CancelFunc
	ended sync.WaitGroup
}

// open serves what the file limpet.yaml of these says.
func open(t *testing.T, files map[string]string, o Options) *house {
	t.Helper()
	dir := testfiles.Write(t, files)
	f, err := Load(t.Context(), filepath.Join(dir, "limpet.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	rt, err := f.Build(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(context.Background())
	h := &house{T: t, Runtime: rt, dir: dir, at: map[string]string{}, end: end}
	h.ended.Go(func() { _ = rt.Run(ctx) })
	for _, l := range rt.Listeners() {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		h.at[l.Name] = ln.Addr().String()
		h.ended.Go(func() {
			if err := l.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() {
		if err := rt.Shutdown(t.Context()); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
		end()
		h.ended.Wait()
	})
	return h
}

// rewrite updates the runtime to another text.
func (h *house) rewrite(text string) (Changes, error) {
	h.Helper()
	return rewrite(h.T, h.Runtime, h.dir, text)
}

// get returns status and body of an answer, and the names of the certificate.
func (h *house) get(listener, host, path string) string {
	h.Helper()
	scheme := "http"
	var about *tls.Config
	if slices.ContainsFunc(h.Listeners(), func(l Listener) bool { return l.Name == listener && l.TLS != nil }) {
		scheme, about = "https", &tls.Config{InsecureSkipVerify: true, ServerName: host}
	}
	client := &http.Client{
		Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: about, ForceAttemptHTTP2: true}, Timeout: time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	r, err := http.NewRequestWithContext(h.Context(), http.MethodGet, scheme+"://"+h.at[listener]+path, nil)
	if err != nil {
		h.Fatal(err)
	}
	r.Host = host
	res, err := client.Do(r)
	if err != nil {
		return "error"
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		h.Fatal(err)
	}
	answer := fmt.Sprintf("%d %s", res.StatusCode, strings.TrimSpace(string(body)))
	if res.TLS != nil {
		answer += " " + strings.Join(res.TLS.PeerCertificates[0].DNSNames, ",")
	}
	return answer
}

// certificate makes the files of a certificate.
func certificate(t *testing.T, files map[string]string, name string, hosts ...string) {
	t.Helper()
	c := testcerts.NewAuthority(t, "test").Issue(t, nil, hosts...)
	files[name+".pem"], files[name+".key"] = c.PEM(), c.KeyPEM(t)
}

// twoServers are addresses of servers that answer with their names and with the
// client that they are told of.
func twoServers(t *testing.T) (a, b string) {
	t.Helper()
	serve := func(name string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%s %s", name, r.Header.Get("X-Forwarded-For"))
		}))
		t.Cleanup(s.Close)
		return s.Listener.Addr().String()
	}
	return serve("a"), serve("b")
}

const several = `listeners:
  - {name: http, address: "127.0.0.1:80"}
  - {name: https, address: "127.0.0.1:443", tls: {certificates: [{certificate: shop.pem, key: shop.key}, {certificate: blog.pem, key: blog.key}]}}
stores: [{name: main, maxEntries: 100}]
pools:
  - {name: web, servers: [{address: A}], healthMonitors: [{checker: tcp, interval: 1s}]}
  - {name: other, servers: [{address: B}]}
poolGroups: [{name: both, members: [{pool: other}, {pool: web, ratio: 0}]}]
ipGroups: [{name: Bad, entries: [192.0.2.66]}]
rateLimiters: [{name: few, count: 1, period: 1h}]
scripts:
  - {name: count, file: count.lua}
  - {name: limit, file: limit.lua}
services:
  - {name: shop, listeners: [https], hosts: [shop.example.com, "*.Shop.example.com"], pools: [web], scripts: [count], tables: {store: main}}
  - {name: blog, listeners: [https], hosts: [blog.example.com], poolGroups: [both], httpRequest: [{name: all, action: {modify: {pool: {name: both}}}}]}
  - {name: counts, listeners: [http], hosts: [counts.example.com], scripts: [count], tables: {store: main}}
  - {name: limited, listeners: [http], hosts: [limited.example.com], scripts: [limit]}
  - {name: moved, listeners: [http], httpSecurity: [{name: tls, action: {redirectToHTTPS: {port: 443}}}]}
`

const countScript = `-- HTTP_REQ
n = (avi.vs.table_lookup("n", "all", 0) or 0) + 1
avi.vs.table_remove("n", "all")
avi.vs.table_insert("n", "all", n, 3600)
if avi.vs.name() == "counts" then avi.http.response(200, {}, "counted " .. n) end
`

const limitScript = `-- HTTP_REQ
if avi.vs.ratelimit.exceed("few", "k") then avi.http.response(429, {}, "limited") else avi.http.response(200, {}, "fine") end
`

func severalFiles(t *testing.T) map[string]string {
	a, b := twoServers(t)
	files := map[string]string{"limpet.yaml": strings.NewReplacer("A}", a+"}", "B}", b+"}").Replace(several), "count.lua": countScript, "limit.lua": limitScript}
	certificate(t, files, "shop", "shop.example.com", "*.shop.example.com")
	certificate(t, files, "blog", "blog.example.com")
	return files
}

// Several services at several listeners: requests go to the service of their
// host, connections get the certificate of the name they ask for, and services
// share pools, tables, scripts and limiters.
func TestServices(t *testing.T) {
	files := severalFiles(t)
	var mu sync.Mutex
	var edited []string
	h := open(t, files, Options{Edit: func(service string, _ *limpet.Config) {
		mu.Lock()
		defer mu.Unlock()
		edited = append(edited, service)
	}})
	if diff := cmp.Diff([]string{"shop", "blog", "counts", "limited", "moved"}, edited); diff != "" {
		t.Error(diff)
	}
	check := func(listener, host, want string) {
		t.Helper()
		if got := h.get(listener, host, "/"); got != want {
			t.Errorf("%s, %s: %q, not %q", listener, host, got, want)
		}
	}
	check("https", "shop.example.com", "200 a 127.0.0.1 shop.example.com,*.shop.example.com")
	check("https", "a.shop.example.com", "200 a 127.0.0.1 shop.example.com,*.shop.example.com")
	check("https", "blog.example.com", "200 b 127.0.0.1 blog.example.com")
	check("https", "nobody.example.com", "421 421 Misdirected Request shop.example.com,*.shop.example.com")
	check("http", "counts.example.com", "200 counted 3") // the shop has counted two
	check("http", "COUNTS.example.com.:80", "200 counted 4")
	check("http", "limited.example.com", "200 fine")
	check("http", "limited.example.com", "429 limited")
	check("http", "shop.example.com", "302 302 Found")
	if got := h.Listeners()[0].Services(); !slices.Equal(got, []string{"counts", "limited", "moved"}) {
		t.Errorf("services at http: %v", got)
	}
	if _, ok := h.Service("nobody"); ok {
		t.Error("a service of no name")
	}

	// A reload moves hosts, adds and removes services, exchanges certificates;
	// a limiter that is the same stays what it is, so do tables.
	text := files["limpet.yaml"]
	certificate(t, files, "new", "shop.example.com")
	for _, name := range []string{"new.pem", "new.key"} {
		if err := os.WriteFile(filepath.Join(h.dir, name), []byte(files[name]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	blog, _ := h.Service("blog")
	changed := strings.NewReplacer(
		"hosts: [blog.example.com]", "hosts: [news.example.com]", "shop.pem", "new.pem", "shop.key", "new.key",
		"  - {name: moved", "  - {name: fresh, listeners: [http], hosts: [fresh.example.com], pools: [other]}\n  - {name: moved",
		"  - {name: counts, listeners: [http], hosts: [counts.example.com], scripts: [count], tables: {store: main}}\n", "",
		"maxEntries: 100", "maxEntries: 200",
	).Replace(text)
	changes, err := h.rewrite(changed)
	if err != nil {
		t.Fatal(err)
	}
	want := Changes{Live: []string{"listeners[1]", "services[1]", "services[2]", "services[3]", "stores[0]"}}
	if diff := cmp.Diff(want, changes); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	check("https", "shop.example.com", "200 a 127.0.0.1 shop.example.com")
	check("https", "news.example.com", "200 b 127.0.0.1 shop.example.com")
	check("https", "blog.example.com", "421 421 Misdirected Request blog.example.com")
	check("http", "fresh.example.com", "200 b 127.0.0.1")
	check("http", "counts.example.com", "302 302 Found")
	check("http", "limited.example.com", "429 limited")
	if now, _ := h.Service("blog"); now != blog {
		t.Error("a service that stays is another one")
	}
	if changes, err = h.rewrite(text); err != nil {
		t.Fatal(err)
	}
	check("http", "counts.example.com", "200 counted 6")
	if len(changes.Restart) != 0 {
		t.Errorf("waiting: %v", changes.Restart)
	}
	if err := h.Runtime.Run(t.Context()); !errors.Is(err, limpet.ErrRunning) {
		t.Errorf("run twice: %v", err)
	}

	// The other form of files needs a restart, and changes nothing.
	if _, err := h.rewrite("httpSecurity: [{name: a, action: close}]"); err == nil || !strings.Contains(err.Error(), "after a restart") {
		t.Error(err)
	}
	check("http", "limited.example.com", "429 limited")
}

// The rules of a listener judge connections, before any service, and believe
// proxies; services see the client.
func TestListenerRules(t *testing.T) {
	a, _ := twoServers(t)
	text := `listeners:
  - {name: open, address: "127.0.0.1:80"}
  - {name: proxied, address: "127.0.0.1:81", proxyProtocol: {from: [127.0.0.0/8]}, networkSecurity: [{name: bad, match: {clientIP: {groups: [Bad]}}, action: deny}]}
  - {name: closed, address: "127.0.0.1:82", networkSecurity: [{name: all, action: deny}]}
  - {name: full, address: "127.0.0.1:83", connections: {max: 1}}
ipGroups: [{name: Bad, entries: [192.0.2.66]}]
pools: [{name: web, servers: [{address: ` + a + `}]}]
services:
  - {name: first, pools: [web], networkSecurity: [{name: not me, match: {clientIP: {addrs: [192.0.2.77]}}, action: deny}]}
  - {name: second, hosts: [second.example.com], pools: [web]}
`
	h := open(t, map[string]string{"limpet.yaml": text}, Options{})
	if got := h.get("open", "x", "/"); got != "200 a 127.0.0.1" {
		t.Error(got)
	}
	if got := h.get("closed", "x", "/"); got != "error" {
		t.Error(got)
	}
	proxied := func(client, host string) string {
		t.Helper()
		conn, err := net.Dial("tcp", h.at["proxied"])
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "PROXY TCP4 %s 127.0.0.1 1234 81\r\nGET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", client, host)
		answer, _ := io.ReadAll(conn)
		_, body, _ := strings.Cut(string(answer), "\r\n\r\n")
		return body
	}
	for client, want := range map[string]string{"192.0.2.1": "a 192.0.2.1", "192.0.2.66": "", "192.0.2.77": ""} {
		if got := proxied(client, "x"); got != want {
			t.Errorf("%s: %q, not %q", client, got, want)
		}
	}
	if got := proxied("192.0.2.77", "second.example.com"); got != "a 192.0.2.77" {
		t.Errorf("second: %q", got)
	}
	held, err := net.Dial("tcp", h.at["full"])
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if _, err := io.WriteString(held, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := held.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if got := h.get("full", "x", "/"); got != "error" {
		t.Errorf("a second connection: %s", got)
	}
	if _, err := h.rewrite(strings.Replace(text, "{name: all, action: deny}", "{name: all, action: allow}", 1)); err != nil {
		t.Fatal(err)
	}
	if got := h.get("closed", "x", "/"); got != "200 a 127.0.0.1" {
		t.Errorf("after a reload: %s", got)
	}
}

// One service may have several listeners, and be found by its new name.
func TestListenersOfOneService(t *testing.T) {
	const text = `name: one
listeners: [{name: a, address: "127.0.0.1:80"}, {name: b, address: "127.0.0.1:81"}]
networkSecurity: [{name: all, action: deny, disabled: true}]
httpSecurity: [{name: all, action: {respond: {status: 200, body: "x"}}}]
`
	h := open(t, map[string]string{"limpet.yaml": text}, Options{})
	one, _ := h.Service("one")
	for _, l := range []string{"a", "b"} {
		if got := h.get(l, "h", "/"); got != "200 x" {
			t.Error(got)
		}
	}
	changes, err := h.rewrite(strings.NewReplacer("name: one", "name: two", "127.0.0.1:81", "127.0.0.1:82", ", disabled: true", "").Replace(text))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Changes{Live: []string{"listeners[1]", "name", "networkSecurity[0]"}, Restart: []string{"listeners[1].address"}}, changes); diff != "" {
		t.Error(diff)
	}
	if two, ok := h.Service("two"); !ok || two != one {
		t.Error("the service is another one")
	}
	if got := h.get("a", "h", "/"); got != "error" {
		t.Errorf("the new rule does not apply: %s", got)
	}
	changes, err = h.rewrite(strings.Replace(text, `"127.0.0.1:81"}`, `"127.0.0.1:81", connections: {max: 5}}, {name: c, address: ":83"}`, 1))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"listeners[1]", "listeners[2]"}, changes.Restart); diff != "" {
		t.Error(diff)
	}
}

// Hosts are found whatever their letters, port and final dot, the longest part
// first, and without allocations.
func TestFind(t *testing.T) {
	service := func() *limpet.VirtualService {
		vs, err := limpet.New(limpet.Config{})
		if err != nil {
			t.Fatal(err)
		}
		return vs
	}
	exact, six, below, deeper, others, unknown := service(), service(), service(), service(), service(), service()
	names := map[*limpet.VirtualService]string{exact: "exact", six: "six", below: "below", deeper: "deeper", others: "others", unknown: "unknown"}
	r := &routes{
		exact:  map[string]*limpet.VirtualService{"www.example.com": exact, "2001:db8::1": six},
		below:  map[string]*limpet.VirtualService{".example.com": below, ".a.example.com": deeper},
		others: others, unknown: unknown,
	}
	for host, want := range map[string]*limpet.VirtualService{
		"www.example.com": exact, "WWW.Example.COM:8080": exact, "www.example.com.": exact, "[2001:db8::1]:80": six, "[2001:db8::1]": six, "2001:db8::1": six,
		"x.example.com": below, "x.y.example.com": below, "x.a.example.com": deeper, "a.example.com": below,
		"example.com": others, ".example.com": others, "": others, ":80": others, "com": others, "wwwexample.com": others,
	} {
		if got := r.find(host); got != want {
			t.Errorf("%q: %s, not %s", host, names[got], names[want])
		}
	}
	r.others = nil
	if got := r.find("else"); got != unknown {
		t.Errorf("else: %s", names[got])
	}
	for _, host := range []string{"www.example.com", "www.example.com:8080", "x.y.a.example.com"} {
		if n := testing.AllocsPerRun(100, func() { r.find(host) }); n != 0 {
			t.Errorf("%q: %v allocations", host, n)
		}
	}
}

// What is wrong with the arrangement of services is reported where it stands.
func TestServiceFaults(t *testing.T) {
	const pools = "pools: [{name: web, servers: [{address: 10.0.0.1:80}]}]\n"
	for _, c := range []struct {
		name, text string
		want       []string // lines
	}{
		{"keys of one service", "services: [{name: a, pools: [web]}]\nlisten: :80\ntls: {}\nlogging: {slowResponse: 1s}\nconnections: {max: 1}\nname: x\n" + pools, []string{
			"text:2:1: listen: with listeners or services, write the address of each of the listeners", "text:3:1: tls: in a file with listeners, write it in one of them",
			"text:4:1: logging: in a file with services, write it in one of them", "text:5:1: connections: in a file with listeners, write it in one of them",
			"text:6:1: name: in a file with services, write it in one of them",
		}},
		{"none", "services: []\nlisteners: []\n" + pools, []string{"text:1:1: services: an empty list", "text:2:1: listeners: an empty list"}},
		{"listen and listeners", "listeners: [{name: a, address: ':80'}]\nlisten: :81\n" + pools, []string{"text:2:1: listen: with listeners or services, write the address of each of the listeners"}},
		{"what stands elsewhere", "services: [{name: a, pools: [web], stores: [], connections: {max: 1}}]\n" + pools, []string{
			`text:1:36: services[0]: unknown field "stores"; it stands at the top of the file`, `text:1:48: services[0]: unknown field "connections"; it stands in listeners`,
		}},
		{"names", "services: [{name: a, pools: [web]}, {name: a, hosts: [b.example.com], pools: [web]}, {pools: [web]}]\n" + pools, []string{
			`text:1:44: services[1].name: "a" is empty or taken`, `text:1:86: services[2].name: "" is empty or taken`,
		}},
		{"what is not there", "services: [{name: a, listeners: [x], pools: [wep], poolGroups: [g], scripts: [s], tables: {store: m}, rateProfile: {limiter: l}, defaultPool: web}]\nlisteners: [{name: http, address: ':80'}]\n" + pools, []string{
			`text:1:34: services[0].listeners[0]: listener "x" not found`,
			`text:1:46: services[0].pools[0]: pool "wep" not found; did you mean "web"?`, `text:1:65: services[0].poolGroups[0]: pool group "g" not found`,
			`text:1:79: services[0].scripts[0]: script "s" not found`, `text:1:99: services[0].tables.store: store "m" not found`, `text:1:126: services[0].rateProfile.limiter: rate limiter "l" not found`,
			`text:1:143: services[0].defaultPool: "web": there is no such pool`,
		}},
		{"nearly", "services: [{name: a, listeners: [htp], pools: [web], scripts: [], tables: {store: mian}}]\nlisteners: [{name: http, address: ':80'}]\nstores: [{name: main}]\n" + pools, []string{
			`text:1:34: services[0].listeners[0]: listener "htp" not found; did you mean "http"?`, `text:1:83: services[0].tables.store: store "mian" not found; did you mean "main"?`,
		}},
		{"hosts", "services: [{name: a, hosts: [A.example.com, '*', ex_ample.com, 'a b', '*.', 192.0.2.1], pools: [web]}, {name: b, hosts: [a.example.com], pools: [web]}]\n" + pools, []string{
			`text:1:45: services[0].hosts[1]: "*" is not the name of a host, such as www.example.com or *.example.com`,
			`text:1:64: services[0].hosts[3]: "a b" is not the name of a host, such as www.example.com or *.example.com`,
			`text:1:71: services[0].hosts[4]: "*." is not the name of a host, such as www.example.com or *.example.com`,
			`text:1:122: services[1].hosts[0]: service "a" has "a.example.com" at listener "listen" already`,
		}},
		{"two without hosts", "services: [{name: a, pools: [web]}, {name: b, pools: [web]}]\n" + pools, []string{`text:1:37: services[1].hosts: service "a" at listener "listen" has no hosts either`}},
		{"listeners", "listeners: [{address: ':80'}, {name: a, address: foo}, {name: a, address: ':80'}]\n" + pools, []string{
			`text:1:13: listeners[0].name: "" is empty or taken`, `text:1:50: listeners[1].address: address foo: missing port in address`, `text:1:63: listeners[2].name: "a" is empty or taken`,
		}},
		{"certificates of a listener", "listeners: [{name: a, address: ':80', tls: {certificate: a.pem}}, {name: b, address: ':81', tls: {}}, {name: c, address: ':82', tls: {certificates: [{key: k}]}}]\n" + pools, []string{
			"text:1:44: listeners[0].tls: this configuration cannot name files", "text:1:98: listeners[1].tls: want a certificate, certificates or a directory",
			"text:1:150: listeners[2].tls.certificates[0]: want a certificate",
		}},
		{"rules of a listener", "listeners: [{name: a, address: ':80', networkSecurity: [{name: x, action: deny, match: {clientIP: {groups: [Bad]}}}], connections: {max: 2_000_000_000}}]\nconnections: {max: 1}\nproxyProtocol: {from: [10.0.0.0/8]}\n" + pools, []string{
			`text:1:109: listeners[0].networkSecurity[0].match.clientIP.groups[0]: unknown ip group "Bad"`, "text:1:138: listeners[0].connections.max: 2000000000: more than 1073741824",
			"text:2:14: connections: the listeners have rules of their own; write it there", "text:3:16: proxyProtocol: the listeners have rules of their own; write it there",
		}},
		{"rules of a listener alone", "listeners: [{name: a, address: ':80', networkSecurity: [{name: x, action: deny, match: {clientIP: {groups: [Bad]}}}]}]\n" + pools, []string{
			`text:1:109: listeners[0].networkSecurity[0].match.clientIP.groups[0]: unknown ip group "Bad"`,
		}},
		{"stores", "services: [{name: a, pools: [web], tables: {store: m, maxEntries: 5}}]\nstores: [{name: m}, {name: m}, {}]\n" + pools, []string{
			"text:1:44: services[0].tables: want a store, or options of tables of its own", `text:2:28: stores[1].name: "m" is empty or taken`, `text:2:32: stores[2].name: "" is empty or taken`,
		}},
		{"a service without answers", "services: [{name: a, pools: [web]}, {name: b, hosts: [b.example.com]}]\n" + pools, []string{
			"text:1:37: services[1]: no service: without pools, scripts and rules that answer every request gets status 503",
		}},
		{"two services with a fault", "services: [{name: a, pools: [web], httpSecurity: [{name: x, action: {respond: {status: 999}}}]}, {name: b, hosts: [b.example.com], pools: [web], httpRequest: [{name: x, action: {modify: {pool: {name: wep}}}}]}]\n" + pools, []string{
			"text:1:88: services[0].httpSecurity[0].action.respond.status: 999: more than 599",
			`text:1:201: services[1].httpRequest[0].action.modify.pool.name: "wep": there is no such pool or group; did you mean "web"?`,
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := Parse(t.Context(), "text", []byte(c.text), nil)
			if err == nil {
				_, err = f.Build(Options{})
			}
			if err == nil {
				t.Fatal("no fault")
			}
			if diff := cmp.Diff(c.want, strings.Split(err.Error(), "\n")); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
}

// A File may be built by several goroutines, and a Runtime updated and asked by
// several; runtimes of one file share nothing that changes.
func TestConcurrentUse(t *testing.T) {
	files := severalFiles(t)
	dir := testfiles.Write(t, files)
	f, err := Load(t.Context(), filepath.Join(dir, "limpet.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var counts [4]string
	var all sync.WaitGroup
	for i := range counts {
		all.Go(func() {
			rt, err := f.Build(Options{Edit: func(_ string, c *limpet.Config) { c.RateLimiters["own"] = nil; delete(c.RateLimiters, "own") }})
			if err != nil {
				t.Error(err)
				return
			}
			var users sync.WaitGroup
			defer users.Wait()
			for range 3 {
				users.Go(func() {
					if _, err := rt.Update(f); err != nil {
						t.Error(err)
					}
					_, _ = rt.Service("shop")
					_ = rt.Listeners()[0].Services()
					_, _ = f.Warnings(), f.Paths()
				})
			}
			vs, _ := rt.Service("counts")
			w := httptest.NewRecorder()
			vs.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://counts.example.com/", nil))
			counts[i] = w.Body.String()
		})
	}
	all.Wait()
	for _, got := range counts {
		if got != "counted 1" {
			t.Errorf("%q", got)
		}
	}
}
