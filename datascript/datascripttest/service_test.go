package datascripttest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/ipgroup"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/policy"
)

// notOfTheService says which cases show what a socket cannot, and why.
var notOfTheService = map[string]string{
	"disable":          "the tunnel would lead to a server that is not there",
	"disable-rollback": "likewise",
	"request-id":       "a real service draws the name at random",
	"ssl-fingerprint":  "fingerprints are the host's, and the service knows none",
	"vs-load":          "a real service counts the connections that there are",
}

// TestLikeTheService plays each case through a virtual service, over a socket,
// and compares what comes of it with what the kit says: a script that passes
// its tests must do the same where it is deployed.
func TestLikeTheService(t *testing.T) {
	files, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	played := 0
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txtar")
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			parse := func() *testCase {
				c, err := parseCase(file, bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n")))
				if err != nil {
					t.Fatal(err)
				}
				return c
			}
			kit := parse()
			want, err := kit.outcomes(nil)
			if err != nil {
				t.Fatal(err)
			}
			if want == nil {
				return // a script does not compile
			}
			if notOfTheService[name] != "" {
				return
			}
			played++
			c := parse()
			s := newService(t, c)
			got, err := c.outcomes(s.do)
			if err != nil {
				t.Fatal(err)
			}
			for i := range want {
				if i < len(got) {
					settle(want[i], got[i])
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("requests (- the kit, + the service):\n%s", diff)
			}
			if diff := cmp.Diff(formatEntries(kit.service.Tables.Entries()), formatEntries(c.service.Tables.Entries())); diff != "" {
				t.Errorf("tables (- the kit, + the service):\n%s", diff)
			}
			if diff := cmp.Diff(formatMetrics(kit.service.Metrics.Snapshot()), formatMetrics(s.vs.Metrics())); diff != "" {
				t.Errorf("metrics (- the kit, + the service):\n%s", diff)
			}
		})
	}
	t.Logf("%d of %d cases were played over a socket", played, len(files))
	for name := range notOfTheService {
		if !slices.Contains(files, filepath.Join("testdata", "script", name+".txtar")) {
			t.Errorf("there is no case %s", name)
		}
	}
}

// An outcome is what came of a request.
type outcome struct {
	Sent     string // to the server
	Response string // to the client
	Closed   string
	User     string
	Log      []string
	Err      string

	Answer *Response // before it is settled
}

// outcomes takes the requests of a case through do, or through the kit. They
// are nil if a script does not compile.
func (c *testCase) outcomes(do func(i int, st step) (*outcome, error)) ([]*outcome, error) {
	if do == nil {
		for _, s := range c.scripts {
			script, err := s.compile()
			if err != nil {
				return nil, nil //nolint:nilerr // that is what such a case wants to see
			}
			c.service.Scripts = append(c.service.Scripts, script)
		}
	}
	var all []*outcome
	for i, st := range c.steps {
		c.service.Tables.Advance(st.after)
		for _, change := range st.servers {
			change.server.Down = change.down
		}
		if do != nil {
			o, err := do(i, st)
			if err != nil {
				return nil, err
			}
			all = append(all, o)
			continue
		}
		a := c.answer(i)
		c.service.Respond = a.respond()
		st.connection.failure = a.failure
		r, err := c.service.do(st.request.WithContext(context.Background()), st.connection)
		if err != nil {
			return nil, err
		}
		o := &outcome{Closed: r.Closed.String(), User: r.User, Log: r.Log, Answer: r.Response}
		if r.Sent != nil {
			body, _ := io.ReadAll(r.Sent.Body)
			o.Sent = sentText(r.Pool, r.Server, r.Sent, body)
		}
		if r.Err != nil {
			o.Err = fmt.Sprintf("%v: %s", r.Err.Event, r.Err.Message)
		}
		all = append(all, o)
	}
	return all, nil
}

func sentText(pool string, server netip.AddrPort, r *http.Request, body []byte) string {
	var b strings.Builder
	h := r.Header.Clone()
	h.Del("Content-Length")
	if server.IsValid() {
		b.WriteString(joinWords(pool, server.String()) + "\n")
	}
	writeHead(&b, r.Method+" "+r.URL.RequestURI()+"\nHost: "+r.Host, h)
	writeBody(&b, body)
	return b.String()
}

// settle writes both responses, without what a case leaves to the service: the
// date, the length, the end of the connection, the type of a body that has
// none, and the line break that ends the service's own texts.
func settle(want, got *outcome) {
	write := func(o *outcome) string {
		if o.Answer == nil {
			return ""
		}
		h := o.Answer.Header.Clone()
		for _, name := range []string{"Date", "Content-Length", "Connection"} {
			h.Del(name)
		}
		if want.Answer != nil && h.Get("Pragma") != "" && want.Answer.Header.Get("Cache-Control") == "" {
			h.Del("Cache-Control") // which net/http's client adds
		}
		if want.Answer != nil && want.Answer.Header.Get("Content-Type") == "" {
			h.Del("Content-Type")
		}
		var b strings.Builder
		writeHead(&b, fmt.Sprint(o.Answer.Status), h)
		writeBody(&b, bytes.TrimSuffix(o.Answer.Body, []byte("\n")))
		return b.String()
	}
	want.Response, got.Response = write(want), write(got)
	want.Answer, got.Answer = nil, nil
}

// A service is a virtual service in front of the servers of a case.
type service struct {
	t       *testing.T
	c       *testCase
	vs      *limpet.VirtualService
	addr    string
	records chan limpet.Record
	pools   []*lbpool.Pool

	mu     sync.Mutex // guards what follows, which belongs to the request at hand
	index  int
	step   step
	server *http.Request
	body   []byte
	at     netip.AddrPort
}

// as6 is an address in the form of IPv6, as the header needs it.
func as6(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(a.Addr().As16()), a.Port())
}

func newService(t *testing.T, c *testCase) *service {
	s := &service{t: t, c: c, records: make(chan limpet.Record, 1)}
	cfg := limpet.Config{
		Name: c.service.Name, Scripting: limpet.Scripting{StrictSelect: c.service.StrictSelect, Limits: c.service.Limits, Instances: c.service.Instances,
			RateLimiters: c.service.RateLimiters, RateProfile: c.service.RateProfile,
			RequestBody: limpet.BodyBuffer{Bytes: c.service.RequestBody.Bytes}, ResponseBody: limpet.BodyBuffer{Bytes: c.service.ResponseBody.Bytes}},
		Tables: swappedTables{&c.service.Tables}, Clients: limpet.Clients{Authenticator: s,
			ProxyProtocol: limpet.ProxyProtocol{From: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}}, Transport: s,
		OnComplete: func(r limpet.Record) { s.records <- r },
	}
	if cfg.Name == "" {
		cfg.Name = " " // the kit's default is no name
	}
	cfg.Limits.Time = 10 * time.Second
	if c.service.RequestBody.Head {
		cfg.RequestBody.Head = true
	}
	if len(c.service.Tokens) > 0 {
		cfg.Tokens = c.service.Tokens
	}
	if len(c.service.AddressFacts) > 0 {
		cfg.Geo, cfg.Reputations = c.service.AddressFacts, c.service.AddressFacts
	}
	for _, source := range c.scripts {
		script, err := source.compile()
		if err != nil {
			t.Fatal(err)
		}
		cfg.Scripts = append(cfg.Scripts, limpet.Script{Script: script})
	}
	s.objects(&cfg)
	var err error
	if s.vs, err = limpet.New(cfg); err != nil {
		t.Fatal(err)
	}
	handler := http.Handler(s.vs)
	if len(cfg.Pools) == 0 {
		handler = s.vs.Wrap(http.HandlerFunc(s.answer))
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		r.TLS = s.step.request.TLS // the handshake is not what a case shows
		s.mu.Unlock()
		handler.ServeHTTP(w, r)
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(s.vs.Listener(ln)) }()
	t.Cleanup(func() { srv.Close(); <-done })
	s.addr = ln.Addr().String()
	return s
}

// objects makes the pools and groups of a case.
func (s *service) objects(cfg *limpet.Config) {
	t, c := s.t, s.c.service
	pools := map[string]*lbpool.Pool{}
	for _, p := range c.Pools {
		pc := lbpool.Config{Name: p.Name, Algorithm: &inOrder{roundRobin: p.Algorithm == RoundRobin}}
		for _, server := range p.Servers {
			pc.Servers = append(pc.Servers, lbpool.ServerConfig{Address: server.Addr.String(), Name: server.Name, Disabled: server.Down})
		}
		pool, err := lbpool.New(pc)
		if err != nil {
			t.Fatal(err)
		}
		pools[p.Name], cfg.Pools = pool, append(cfg.Pools, pool)
		s.pools = cfg.Pools
	}
	for _, g := range c.PoolGroups {
		gc := lbpool.GroupConfig{Name: g.Name, ImplicitLabels: g.ImplicitLabels, FallbackLabel: g.FallbackLabel}
		for i, m := range g.Members {
			gc.Members = append(gc.Members, lbpool.Member{Pool: pools[m.Pool], Ratio: 1, Priority: -i, Label: m.Label})
		}
		group, err := lbpool.NewGroup(gc)
		if err != nil {
			t.Fatal(err)
		}
		cfg.PoolGroups = append(cfg.PoolGroups, group)
	}
	if len(c.IPGroups) > 0 {
		cfg.IPGroups = &ipgroup.Set{}
	}
	for name, networks := range c.IPGroups {
		var entries []string
		for _, n := range networks {
			entries = append(entries, n.String())
		}
		g, err := ipgroup.Parse(name, entries, ipgroup.Options{AllowEmpty: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := cfg.IPGroups.Replace(g); err != nil {
			t.Fatal(err)
		}
	}
	var groups []*policy.StringGroup
	for _, g := range c.StringGroups {
		sc := policy.StringGroupConfig{Name: g.Name}
		if g.IsMap {
			sc.Kind = policy.StringMap
		}
		for _, e := range g.Entries {
			sc.Entries = append(sc.Entries, policy.StringEntry{Key: e.Key, Value: e.Value})
		}
		group, err := policy.NewStringGroup(sc)
		if err != nil {
			t.Fatal(err)
		}
		groups = append(groups, group)
	}
	if len(groups) > 0 {
		var err error
		if cfg.StringGroups, err = policy.NewStringGroups(groups...); err != nil {
			t.Fatal(err)
		}
	}
}

// inOrder chooses as the kit does.
type inOrder struct {
	roundRobin bool
	mu         sync.Mutex
	turn       int
}

func (a *inOrder) Choose(up []*lbpool.Server, _ lbpool.Hint) *lbpool.Server {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.roundRobin {
		return up[0]
	}
	a.turn++
	return up[(a.turn-1)%len(up)]
}

// swappedTables are the tables of a case, with what a service needs to rewrite
// an entry.
type swappedTables struct{ *Tables }

func (t swappedTables) CompareAndSwap(_ context.Context, table, key, old, value string) (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := tableKey{table, key}
	e, left := t.findLocked(k)
	if left <= 0 || e.value != old {
		return false, nil
	}
	t.putLocked(k, value, left)
	return true, nil
}

// Authenticate implements limpet.Authenticator.

// Challenge implements limpet.Authenticator.
func (s *service) Challenge() string { return "" }

// Authenticate implements limpet.Authenticator.
func (s *service) Authenticate(*http.Request) (limpet.Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	session := limpet.Session{Attributes: s.step.connection.attributes}
	for _, c := range s.step.connection.claims {
		for len(session.Claims) <= c.Provider {
			session.Claims = append(session.Claims, map[string][]string{})
		}
		session.Claims[c.Provider][c.Name] = c.Values
	}
	return session, nil
}

// note notes what a server got.
func (s *service) note(r *http.Request) *Response {
	var body []byte
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
		r.Body.Close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.server, s.body = r.Clone(context.Background()), body
	return s.c.answer(s.index).response
}

// answer is the handler that is wrapped where there are no pools.
func (s *service) answer(w http.ResponseWriter, r *http.Request) {
	a := s.note(r)
	maps.Copy(w.Header(), a.Header.Clone())
	w.WriteHeader(a.Status)
	_, _ = w.Write(a.Body)
}

// RoundTrip stands for the servers.
func (s *service) RoundTrip(r *http.Request) (*http.Response, error) {
	a := s.note(r)
	s.mu.Lock()
	s.at, _ = netip.ParseAddrPort(r.URL.Host)
	failure := s.c.answer(s.index).failure
	s.mu.Unlock()
	switch {
	case a != nil:
		return &http.Response{
			StatusCode: a.Status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: cmpHeader(a.Header), Request: r,
			Body: io.NopCloser(bytes.NewReader(a.Body)), ContentLength: int64(len(a.Body)),
		}, nil
	case failure == http.StatusGatewayTimeout:
		return nil, context.DeadlineExceeded
	}
	return nil, errors.New("no valid response")
}

func cmpHeader(h http.Header) http.Header {
	if h == nil {
		return http.Header{}
	}
	return h.Clone()
}

// do takes a request through the service.
func (s *service) do(i int, st step) (*outcome, error) {
	for _, change := range st.servers {
		for _, p := range s.c.service.Pools {
			for j := range p.Servers {
				if &p.Servers[j] == change.server {
					pool := s.poolNamed(p.Name)
					server, _, _ := pool.Lookup(change.server.Addr.String(), 0)
					if server != nil && change.down {
						server.Disable()
					} else if server != nil {
						server.Enable()
					}
				}
			}
		}
	}
	s.mu.Lock()
	s.index, s.step, s.server, s.body, s.at = i, st, nil, nil, netip.AddrPort{}
	s.mu.Unlock()

	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil { // used up by a test that fails
		return nil, err
	}
	local := s.c.service.Local
	if !local.IsValid() {
		local = defaultLocal
	}
	client := netip.MustParseAddrPort(st.request.RemoteAddr)
	family := "TCP4"
	if client.Addr().Is6() || local.Addr().Is6() {
		family = "TCP6"
		client, local = as6(client), as6(local)
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "PROXY %s %s %s %d %d\r\n", family, client.Addr(), local.Addr(), client.Port(), local.Port())
	body, _ := io.ReadAll(st.request.Body)
	fmt.Fprintf(&out, "%s %s HTTP/1.1\r\nHost: %s\r\n", st.request.Method, st.request.RequestURI, st.request.Host)
	h := st.request.Header.Clone()
	h.Del("Content-Length")
	if len(body) > 0 {
		h.Set("Content-Length", fmt.Sprint(len(body)))
	}
	if err := h.Write(&out); err != nil {
		return nil, err
	}
	out.WriteString("\r\n")
	out.Write(body)
	if _, err := conn.Write(out.Bytes()); err != nil {
		return nil, err
	}

	o := &outcome{Closed: Open.String()}
	reader := bufio.NewReader(conn)
	res, err := http.ReadResponse(reader, st.request)
	if err == nil {
		text, readErr := io.ReadAll(res.Body)
		o.Answer = &Response{Status: res.StatusCode, Header: res.Header, Body: text}
		err = readErr
		if res.Close {
			o.Closed = FIN.String()
		}
	}
	record := <-s.records
	if record.Closed { // which the client has to notice
		_, after := reader.ReadByte()
		if err == nil {
			err = after
		}
		o.Closed = FIN.String()
		if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			o.Closed = RST.String()
		}
	} else if err != nil {
		return nil, err
	}
	o.User, o.Log = record.UserID, record.Log
	for _, e := range record.ScriptErrors {
		o.Err += fmt.Sprintf("%v: %s", e.Event, e.Message)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server != nil {
		for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
			if len(st.request.Header[name]) == 0 {
				delete(s.server.Header, name)
			}
		}
		if v := s.server.Header["User-Agent"]; len(v) == 1 && v[0] == "" { // keeps transports from naming themselves
			delete(s.server.Header, "User-Agent")
		}
		o.Sent = sentText(record.Pool, s.at, s.server, s.body)
	}
	return o, nil
}

func (s *service) poolNamed(name string) *lbpool.Pool {
	for _, p := range s.pools {
		if p.Name() == name {
			return p
		}
	}
	return nil
}
