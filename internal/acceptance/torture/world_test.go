package torture_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
	"github.com/limpetlb/limpet/persistence/redisstore"
	"github.com/limpetlb/limpet/policy"
)

// A world is a virtual service with one way of sticking, its servers and its
// clients, and what the model knows of each client: which server it must get.
//
// The pools are my_pool, the default one, api for the path /api, canary for
// requests with the header X-Canary, and the group shop of left and right for
// the path /shop. Servers are a function in the process, or real ones.
type world struct {
	*testing.T
	setting
	way way

	redis  *link // nil: tables in memory
	vs     *limpet.VirtualService
	tables limpet.Tables
	stop   []func() // what ends with the process

	mu       sync.Mutex
	pools    map[string]*lbpool.Pool
	dead     map[string]bool
	joined   map[string]int // the time when a server was last started or found
	now      int            // counts events
	issued   map[string]string
	ids      int
	found    atomic.Pointer[[]lbpool.ServerConfig]
	pairs    map[string]chan struct{}
	streams  chan struct{} // closed when the open streams end
	sites    map[string]*site
	front    *httptest.Server
	clients  []*client
	requests atomic.Int64
	wrong    atomic.Int64
	firstErr atomic.Pointer[string]
	rounds   int
	lost     bool // Redis is
	losses   int
	opened   uint64 // how often stores have lost Redis
}

// A setting is what an event wants of its world.
type setting struct {
	clients   int
	shared    bool // servers of a pool share an address
	keepBound bool
	saved     bool // the profile keeps its clients in a store
	discovers bool
	targets   bool // scripts choose the pool, by the path
	shop      bool // scripts choose the group
	ipv6      bool
	sockets   bool
	odd       bool // cookies are
	entries   int  // of a table; 0: the default
	timeout   time.Duration
	runs      bool
}

// A client has an address, cookies, and a session or a header of its own.
type client struct {
	n        int
	addr     string
	cookies  map[string]string
	session  string
	bindings map[string]binding // by target
	odd      bool
	told     string // what came of the last request
	newcomer bool   // of a flood: not judged
}

// A binding is the server that a client must get in a target.
type binding struct {
	server  string
	session string // with which it was bound
	at      int    // time of the last visit
	free    bool   // the next request may go anywhere
	moved   int    // the loss of Redis during which it moved
}

var errRefused = fmt.Errorf("%w: refused", lbpool.ErrConnect)

func newWorld(t *testing.T, w way, s setting, redis *link) *world {
	t.Helper()
	v := &world{
		T: t, setting: s, way: w, redis: redis, dead: map[string]bool{}, joined: map[string]int{}, issued: map[string]string{},
		pairs: map[string]chan struct{}{}, sites: map[string]*site{},
	}
	v.found.Store(&[]lbpool.ServerConfig{})
	v.open()
	for n := range s.clients {
		v.clients = append(v.clients, v.newClient(n))
	}
	return v
}

func (w *world) newClient(n int) *client {
	c := &client{n: n, odd: w.odd, cookies: map[string]string{}, bindings: map[string]binding{}}
	c.addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{byte(20 + n>>16), byte(n >> 8), byte(n), 1}), 20000).String()
	if w.ipv6 {
		c.addr = fmt.Sprintf("[2001:db8:1:%x::1]:20000", n)
	}
	return c
}

// open starts the process: tables, profiles, pools and the virtual service.
func (w *world) open() {
	w.Helper()
	options := persistence.Options{MaxEntries: w.entries}
	if w.redis == nil {
		w.tables = persistence.NewStore(options)
	} else {
		if w.entries > 0 {
			options.MaxEntries = w.entries
		}
		store, err := redisstore.New(redisstore.Config{
			Addresses: []string{w.redis.addr}, Prefix: w.redis.prefix(w.T), Options: options, Timeout: 10 * time.Second,
		})
		if err != nil {
			w.Fatal(err)
		}
		w.tables = store
		w.stop = append(w.stop, func() {
			w.opened += store.Stats().Opened
			store.Close()
		})
	}
	w.start()
}

func (w *world) start() {
	w.Helper()
	vs, err := limpet.New(w.config())
	if err != nil {
		w.Fatal(err)
	}
	w.vs = vs
	if w.discovers || w.runs {
		ctx, cancel := context.WithCancel(w.Context())
		done := make(chan error, 1)
		go func() { done <- vs.Run(ctx) }()
		w.stop = append(w.stop, func() {
			cancel()
			<-done
		})
	}
	if w.sockets {
		w.front = httptest.NewServer(vs)
		w.stop = append(w.stop, w.front.Close)
	}
	w.stop = append(w.stop, vs.CloseIdleConnections)
}

// close ends the process.
func (w *world) close() {
	for _, stop := range slices.Backward(w.stop) {
		stop()
	}
	w.stop = nil
}

// missed reports whether Redis was lost more often than it was cut off, as may
// happen on a busy machine. The world must have ended.
func (w *world) missed() bool { return w.opened > uint64(w.losses) }

// end ends the servers, too.
func (w *world) end() {
	w.close()
	for _, s := range w.sites {
		s.stop()
	}
}

var poolNames = []string{"my_pool", "api", "canary", "left", "right"}

const perPool = 4

// servers returns the servers of a pool, without those that are discovered.
func (w *world) servers(pool string) (list []lbpool.ServerConfig) {
	for i := range perPool {
		list = append(list, lbpool.ServerConfig{Address: w.server(pool, i)})
	}
	return list
}

// server returns the address of a server; those from perPool on are for
// discoveries.
func (w *world) server(pool string, i int) string {
	n := slices.Index(poolNames, pool)
	switch {
	case w.sockets:
		name := fmt.Sprintf("%s-%d", pool, i)
		if w.sites[name] == nil {
			w.sites[name] = startSite(w, fmt.Sprintf("127.0.%d.%d:0", n+1, i+1))
		}
		return w.sites[name].addr
	case w.shared:
		return fmt.Sprintf("10.0.%d.1:%d", n, 8001+i)
	}
	return fmt.Sprintf("10.0.%d.%d:80", n, i+1)
}

// targetOf returns the target that a server is of.
func (w *world) targetOf(addr string) string {
	for _, name := range poolNames {
		for i := range perPool + 2 {
			if (i < perPool || !w.sockets) && w.server(name, i) == addr {
				if name == "left" || name == "right" {
					return "shop"
				}
				return name
			}
		}
	}
	return ""
}

// config makes everything anew; only the tables stay.
func (w *world) config() limpet.Config {
	w.Helper()
	pools := map[string]*lbpool.Pool{}
	var list []*lbpool.Pool
	for _, name := range poolNames {
		cfg := lbpool.Config{
			Name: name, Servers: w.servers(name), Algorithm: w.way.algorithm(), Passive: lbpool.Passive{Time: time.Millisecond, MaxTime: time.Millisecond},
			Drain: lbpool.DrainPolicy{KeepBound: w.keepBound},
		}
		if w.discovers && name == "my_pool" {
			cfg.Discoveries = []lbpool.Discovery{{Interval: time.Millisecond, Finder: lbpool.FinderFunc(func(context.Context) ([]lbpool.ServerConfig, error) {
				return *w.found.Load(), nil
			})}}
		}
		p, err := lbpool.New(cfg)
		if err != nil {
			w.Fatal(err)
		}
		pools[name], list = p, append(list, p)
	}
	group, err := lbpool.NewGroup(lbpool.GroupConfig{Name: "shop", Members: []lbpool.Member{{Pool: pools["left"], Ratio: 90}, {Pool: pools["right"], Ratio: 10}}})
	if err != nil {
		w.Fatal(err)
	}
	cfg := limpet.Config{Pools: list, PoolGroups: []*lbpool.Group{group}, Tables: w.tables, PersistenceHeader: "X-Binding"}
	if !w.sockets {
		cfg.Transport = roundTripper(w.roundTrip)
	}
	rule := func(m policy.Match, pool string) policy.RequestRule {
		return policy.RequestRule{Name: pool, Match: m, Action: policy.Modify{Pool: policy.SwitchPool{Name: pool}}}
	}
	cfg.HTTPRequest = []policy.RequestRule{rule(policy.Match{Headers: []policy.HeaderMatch{{Name: "X-Canary", Op: policy.Exists}}}, "canary")}
	if w.way.script == "" {
		cfg.HTTPRequest = append(cfg.HTTPRequest,
			rule(policy.Match{Path: &policy.PathMatch{Op: policy.BeginsWith, Values: []string{"/api"}}}, "api"),
			rule(policy.Match{Path: &policy.PathMatch{Op: policy.BeginsWith, Values: []string{"/shop"}}}, "shop"))
	} else {
		script, err := datascript.Compile("stick", datascript.Chunk{Source: w.way.source(w.setting)})
		if err != nil {
			w.Fatal(err)
		}
		cfg.Scripts = []limpet.Script{{Script: script}}
	}
	if w.way.profile != nil {
		w.way.profile(w, &cfg)
	}
	w.mu.Lock()
	w.pools = pools
	w.mu.Unlock()
	return cfg
}

// sessions is where a profile keeps its clients.
func (w *world) sessions() persistence.Sessions {
	if w.redis == nil && !w.saved {
		return nil
	}
	return w.tables.(persistence.Sessions)
}

// A site is a real server.
type site struct {
	w    *world
	addr string
	mu   sync.Mutex
	s    *http.Server
}

func startSite(w *world, addr string) *site {
	s := &site{w: w, addr: addr}
	s.start()
	return s
}

func (s *site) start() {
	ln, err := net.Listen("tcp", s.addr)
	if err != nil {
		s.w.Fatal(err)
	}
	s.addr = ln.Addr().String()
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		maps.Copy(w.Header(), s.w.answer(s.addr, r))
	})}
	s.mu.Lock()
	s.s = server
	s.mu.Unlock()
	go func() { _ = server.Serve(ln) }()
}

func (s *site) stop() { s.s.Close() }

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// roundTrip is all servers, in the process.
func (w *world) roundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	dead := w.dead[r.URL.Host]
	w.mu.Unlock()
	if dead {
		return nil, errRefused
	}
	res := &http.Response{StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, Body: http.NoBody, Request: r, Header: w.answer(r.URL.Host, r)}
	if w.streams != nil && strings.HasPrefix(r.URL.Path, "/stream") {
		reader, writer := io.Pipe()
		res.Body, res.ContentLength = reader, -1
		go func() {
			<-w.streams
			writer.Close()
		}()
	}
	return res, nil
}

// answer is what a server says. Servers of the ways that learn issue sessions
// to clients whose session they do not know; those of other pools accept them.
func (w *world) answer(server string, r *http.Request) http.Header {
	h := http.Header{"X-Server": {server}}
	if id := r.Header.Get("X-Pair"); id != "" {
		w.mu.Lock()
		other := w.pairs[id]
		if other == nil {
			other = make(chan struct{})
			w.pairs[id] = other
			w.mu.Unlock()
			<-other // both requests are with servers at the same time
		} else {
			delete(w.pairs, id)
			w.mu.Unlock()
			close(other)
		}
	}
	if w.way.issues == "" {
		return h
	}
	session := r.Header.Get(w.way.issues)
	if w.way.issues == "Set-Cookie" {
		session = ""
		for field := range strings.SplitSeq(strings.Join(r.Header["Cookie"], "; "), ";") {
			if name, value, _ := strings.Cut(strings.TrimSpace(field), "="); name == "JSESSIONID" {
				session = value // the right one is the last
			}
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	by := w.issued[session]
	if by == server || by != "" && w.targetOf(by) != w.targetOf(server) {
		return h
	}
	w.ids++
	id := fmt.Sprintf("s%d", w.ids)
	if w.odd && w.way.issues == "Set-Cookie" && w.way.script == "" {
		id = oddValue(w.ids)
	}
	w.issued[id] = server
	if w.way.issues == "Set-Cookie" {
		h.Set("Set-Cookie", "JSESSIONID="+id+"; Path=/; HttpOnly; SameSite=Lax")
	} else {
		h.Set(w.way.issues, id)
	}
	return h
}

// oddValue is a value that browsers keep, though no server should send it.
func oddValue(n int) string {
	return fmt.Sprintf([]string{`plain-%d`, `"quoted %d"`, `{"a":%d}`, `with blanks, and commas %d`}[n%4], n)
}

// request sends a request of a client and judges which server has answered.
func (w *world) request(c *client, path string, header http.Header) string {
	target := strings.TrimPrefix(path, "/")
	switch {
	case header.Get("X-Canary") != "":
		target = "canary"
	case target == "" || target == "stream":
		target = "my_pool"
	}
	r := httptest.NewRequest("GET", "http://www.example.com"+path, nil)
	r.RemoteAddr = c.addr
	maps.Copy(r.Header, header)
	w.way.prepare(w, c, r)
	h := c.bindings[target]
	if w.way.fixed != nil {
		h.server = w.way.fixed(w, c, target)
	}
	before := w.usable(target, h.server, true)
	res := w.send(r)
	answered := res.Header.Get("X-Server")
	after := w.usable(target, h.server, true)
	session := c.session
	for _, line := range res.Header["Set-Cookie"] {
		pair, _, _ := strings.Cut(line, ";")
		name, value, _ := strings.Cut(pair, "=")
		if name == "JSESSIONID" {
			c.session = strings.TrimSpace(value)
		} else {
			c.cookies[name] = strings.TrimSpace(value)
		}
	}
	if w.way.issues != "" && w.way.issues != "Set-Cookie" && res.Header.Get(w.way.issues) != "" {
		c.session = res.Header.Get(w.way.issues)
	}
	if c.newcomer || target == "canary" && w.way.script != "" { // whose script binds clients in another pool
		return answered
	}
	w.requests.Add(1)
	fault := ""
	switch {
	case res.StatusCode != http.StatusOK:
		fault = fmt.Sprintf("status %d", res.StatusCode)
	case w.targetOf(answered) != target:
		fault = "another pool"
	case answered == h.server:
	case h.server != "" && before && after && !h.free && h.session == session && !w.back(h, answered):
		fault = "moved"
	}
	if fault != "" {
		w.wrong.Add(1)
		text := fmt.Sprintf("client %d, %s: %s to %q from %q (%s), in round %d", c.n, path, fault, answered, h.server, res.Header.Get("X-Binding"), w.rounds)
		w.firstErr.CompareAndSwap(nil, &text)
	}
	moved := h.moved
	if answered != h.server && w.lost {
		moved = w.losses
	}
	c.told = res.Header.Get("X-Binding")
	c.bindings[target] = binding{server: answered, session: c.session, at: w.now, moved: moved}
	return answered
}

// back reports whether the model lets a client without a table go to a server
// that has come since its last visit.
func (w *world) back(h binding, server string) bool {
	if !w.way.hashed {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.joined[server] > h.at
}

func (w *world) send(r *http.Request) *http.Response {
	if w.sockets {
		out, err := http.NewRequest(r.Method, w.front.URL+r.URL.RequestURI(), nil)
		if err != nil {
			w.Fatal(err)
		}
		out.Header = r.Header
		res, err := http.DefaultClient.Do(out)
		if err != nil {
			w.Error(err)
			return &http.Response{Header: http.Header{}}
		}
		_, _ = io.Copy(io.Discard, res.Body)
		res.Body.Close()
		return res
	}
	rec := httptest.NewRecorder()
	w.vs.ServeHTTP(rec, r)
	return rec.Result()
}

// usable reports whether clients of a server must get it.
func (w *world) usable(target, server string, bound bool) bool {
	if server == "" {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead[server] {
		return false
	}
	members := []string{target}
	if target == "shop" {
		members = []string{"left", "right"}
	}
	for _, name := range members {
		if s, _, ok := w.pools[name].Lookup(server, 0); ok {
			return s.State().Usable() || w.keepBound && bound && !w.way.hashed && s.State() == lbpool.Draining
		}
	}
	return false
}

// each does something with each client, some at a time.
func (w *world) each(f func(*client)) {
	next := make(chan *client, len(w.clients))
	for _, c := range w.clients {
		next <- c
	}
	close(next)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for c := range next {
				f(c)
			}
		})
	}
	wg.Wait()
}

// round has each client ask for paths.
func (w *world) round(paths ...string) {
	if len(paths) == 0 {
		paths = []string{w.path()}
	}
	w.rounds++
	w.each(func(c *client) {
		for _, path := range paths {
			w.request(c, path, nil)
		}
	})
	if w.redis != nil && w.redis.loses && w.rounds == 2 {
		w.lose()
	}
}

func (w *world) path() string {
	if w.shop {
		return "/shop"
	}
	return "/"
}

// lose cuts the process off Redis.
func (w *world) lose() {
	if w.lost {
		return
	}
	w.redis.cut()
	w.lost = true
	w.losses++
	store := w.tables.(*redisstore.Store)
	testwait.Until(w, "Redis to be missed", func() bool {
		_, _, _, _ = store.Lookup(w.Context(), "probe", "probe", 0)
		return !store.Stats().Up
	})
}

// heal joins them again. Values that were replaced meanwhile may be back, as
// the document says: clients that had to move may move once more.
func (w *world) heal() {
	if !w.lost {
		return
	}
	w.redis.heal()
	store := w.tables.(*redisstore.Store)
	testwait.Until(w, "Redis to be back", func() bool { return store.Stats().Up })
	w.lost = false
	for _, c := range w.clients {
		for target, h := range c.bindings {
			h.free = h.free || h.moved == w.losses
			c.bindings[target] = h
		}
	}
}

// kill stops a server of the default target.
func (w *world) kill(server string) {
	w.tick(func() { w.dead[server] = true })
	for _, s := range w.sites {
		if s.addr == server {
			s.stop()
		}
	}
}

// revive starts it again.
func (w *world) revive(server string) {
	for _, s := range w.sites {
		if s.addr == server {
			s.start()
		}
	}
	w.tick(func() {
		delete(w.dead, server)
		w.joined[server] = w.now
	})
	testwait.Until(w, "a server to be used again", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, p := range w.pools {
			if s, _, ok := p.Lookup(server, 0); ok {
				if l, err := p.Acquire(lbpool.Hint{Server: s.Addr()}); err == nil { // which notices that its time is over
					l.Release(lbpool.Outcome{})
				}
				if s.State() == lbpool.Ejected {
					return false
				}
			}
		}
		return true
	})
}

func (w *world) tick(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now++
	f()
	w.now++
}

// lookup returns a server of a pool.
func (w *world) lookup(server string) *lbpool.Server {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.pools {
		if s, _, ok := p.Lookup(server, 0); ok {
			return s
		}
	}
	w.Fatalf("no server %s", server)
	return nil
}

func (w *world) drain(server string) { w.lookup(server).Drain(-1) }

func (w *world) enable(server string) {
	w.lookup(server).Enable()
	w.tick(func() { w.joined[server] = w.now })
}

// update gives the virtual service everything anew.
func (w *world) update() {
	w.Helper()
	if err := w.vs.Update(w.config()); err != nil {
		w.Error(err)
	}
}

// restart ends the process and starts another one with what was saved, or with
// the same Redis.
func (w *world) restart() {
	w.Helper()
	w.heal()
	path := ""
	if store, ok := w.tables.(*persistence.Store); ok {
		path = filepath.Join(w.TempDir(), "tables")
		ctx, cancel := context.WithCancel(w.Context())
		cancel()
		if err := (&persistence.Saver{Store: store, Path: path}).Run(ctx); err != nil {
			w.Fatal(err)
		}
	}
	w.close()
	if path == "" {
		w.open()
	} else {
		store := persistence.NewStore(persistence.Options{MaxEntries: w.entries})
		if err := store.LoadFile(path); err != nil {
			w.Fatal(err)
		}
		w.tables = store
		w.start()
	}
	// The other process has to find servers first, and is not told that one
	// is being drained.
	w.settled()
	w.tick(func() {
		for name := range w.pools {
			for i := range perPool {
				w.joined[w.server(name, i)] = w.now
			}
		}
		for _, s := range *w.found.Load() {
			w.joined[s.Address] = w.now
		}
	})
}

// discover sets how many servers are found, 0 to 2.
func (w *world) discover(n int) {
	var list []lbpool.ServerConfig
	for i := range n {
		list = append(list, lbpool.ServerConfig{Address: w.server("my_pool", perPool+i)})
	}
	w.found.Store(&list)
	w.settled()
	w.tick(func() {
		for _, s := range list {
			w.joined[s.Address] = w.now
		}
	})
}

// settled waits until the pool has the servers that are found.
func (w *world) settled() {
	if !w.discovers {
		return
	}
	testwait.Until(w, "the servers to be found", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.pools["my_pool"].Servers()) == perPool+len(*w.found.Load())
	})
}

// pair sends two requests of a client at the same time.
func (w *world) pair(c *client, path string) {
	id := fmt.Sprintf("%d-%d", c.n, w.rounds)
	// Each half has a copy of the client; the browser keeps what comes last.
	var halves [2]client
	var answered [2]string
	var wg sync.WaitGroup
	for i := range halves {
		halves[i] = *c
		halves[i].bindings, halves[i].cookies = maps.Clone(c.bindings), maps.Clone(c.cookies)
		wg.Go(func() { answered[i] = w.request(&halves[i], path, http.Header{"X-Pair": {id}}) })
	}
	wg.Wait()
	first := c.bindings
	maps.Copy(c.cookies, halves[1].cookies)
	c.session, c.bindings = halves[1].session, halves[1].bindings
	if len(first) == 0 && answered[0] != answered[1] {
		if w.way.claims {
			w.wrong.Add(1)
			text := fmt.Sprintf("client %d: parallel requests to %q (%s) and %q (%s)", c.n, answered[0], halves[0].told, answered[1], halves[1].told)
			w.firstErr.CompareAndSwap(nil, &text)
		} else if w.way.script != "" && w.way.issues == "" {
			// Bound by the answer that came first, whichever that was.
			for target, h := range c.bindings {
				h.free = true
				c.bindings[target] = h
			}
		}
	}
}

// A link leads to a Redis server, and can be cut.
type link struct {
	addr, to string
	loses    bool
	n        int

	ln    net.Listener
	mu    sync.Mutex
	away  bool
	conns map[net.Conn]bool
	wg    sync.WaitGroup
}

func newLink(t testing.TB, to string, loses bool) *link {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &link{addr: ln.Addr().String(), to: to, loses: loses, ln: ln, conns: map[net.Conn]bool{}}
	l.wg.Go(l.accept)
	t.Cleanup(func() {
		ln.Close()
		l.cut()
		l.wg.Wait()
	})
	return l
}

// prefix is another one for each test.
func (l *link) prefix(t testing.TB) string {
	name := strings.Map(func(r rune) rune {
		if r < '0' || r > 'z' || r > '9' && r < 'A' || r > 'Z' && r < 'a' {
			return '_'
		}
		return r
	}, t.Name())
	return fmt.Sprintf("%s.%d", name[max(0, len(name)-55):], l.n)
}

func (l *link) accept() {
	for {
		c, err := l.ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		} else if err != nil {
			continue
		}
		s, err := net.Dial("tcp", l.to)
		l.mu.Lock()
		if err != nil || l.away {
			l.mu.Unlock()
			c.Close()
			if err == nil {
				s.Close()
			}
			continue
		}
		l.conns[c], l.conns[s] = true, true
		l.mu.Unlock()
		for _, p := range [][2]net.Conn{{c, s}, {s, c}} {
			l.wg.Go(func() {
				_, _ = io.Copy(p[0], p[1])
				p[0].Close()
				p[1].Close()
			})
		}
	}
}

func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.away = true
	for c := range l.conns {
		c.Close()
	}
	clear(l.conns)
}

func (l *link) heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.away = false
}
