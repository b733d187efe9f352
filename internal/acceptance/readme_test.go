package acceptance_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/lbpool"
)

// A fleet is three servers that answer with their number. They may issue
// sessions, and then know only their own.
type fleet struct {
	sites  []*site
	issues string // the name of a header, or of a cookie if it is "SESSION"; empty for no sessions
}

// startFleet starts servers on one address, or each on an address of its own.
func startFleet(t *testing.T, oneAddress bool, issues string) *fleet {
	t.Helper()
	f := &fleet{issues: issues}
	for i := range 3 {
		host := fmt.Sprintf("127.0.1.%d:0", i+1)
		if oneAddress {
			host = "127.0.0.1:0"
		}
		f.sites = append(f.sites, startSite(t, http1, listen(t, host), f.server(i)))
	}
	return f
}

func (f *fleet) server(i int) http.Handler {
	var mu sync.Mutex
	known := map[string]bool{}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		w.Header().Set("X-Server", fmt.Sprint(i))
		id := r.Header.Get(f.issues)
		if c, err := r.Cookie(f.issues); err == nil {
			id = c.Value
		}
		switch {
		case f.issues == "", known[id]:
		case id != "":
			http.NotFound(w, r)
		case f.issues == "SESSION":
			id = fmt.Sprintf("%d-%d", i, len(known))
			known[id] = true
			http.SetCookie(w, &http.Cookie{Name: f.issues, Value: id})
		default:
			id = fmt.Sprintf("%d-%d", i, len(known))
			known[id] = true
			w.Header().Set(f.issues, id)
		}
	})
}

func (f *fleet) configs() []lbpool.ServerConfig {
	var list []lbpool.ServerConfig
	for _, s := range f.sites {
		list = append(list, lbpool.ServerConfig{Address: s.Addr})
	}
	return list
}

// A visitor is a client, by its address or by what it sends.
type visitor struct {
	n       int
	session string // as issued
	lost    int    // sessions that the server did not know
	servers []string
}

// visit sends a request, and notes which server has answered. Who has lost its
// session gets another one.
func (f *fleet) visit(t *testing.T, v *visitor, url string, send func(*http.Request) *http.Response, prepare func(*http.Request, int)) {
	t.Helper()
	for {
		r := httptest.NewRequest("GET", url, nil)
		r.RequestURI = ""
		prepare(r, v.n)
		switch {
		case v.session == "":
		case f.issues == "SESSION":
			r.AddCookie(&http.Cookie{Name: f.issues, Value: v.session})
		default:
			r.Header.Set(f.issues, v.session)
		}
		resp := send(r)
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode == http.StatusNotFound {
			v.lost++
			v.session = ""
			continue
		}
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("client %d: status %d", v.n, resp.StatusCode)
		}
		if f.issues != "" {
			v.session = resp.Header.Get(f.issues) + v.session
			for _, c := range resp.Cookies() {
				v.session = c.Value
			}
		}
		v.servers = append(v.servers, resp.Header.Get("X-Server"))
		return
	}
}

// stays sends clients to the servers, stops one of these, and goes on. Each
// client stays with its server; the server's own clients move once, and stay
// with the next.
func (f *fleet) stays(t *testing.T, url string, send func(*http.Request) *http.Response, prepare func(*http.Request, int)) {
	t.Helper()
	const before, after = 3, 6
	visitors := make([]visitor, 30)
	rounds := func(n int) {
		for range n {
			for i := range visitors {
				visitors[i].n = i
				f.visit(t, &visitors[i], url, send, prepare)
			}
		}
	}
	rounds(before)
	used := map[string]int{}
	for i := range visitors {
		v := &visitors[i]
		used[v.servers[0]]++
		if v.lost > 0 || len(slices.Compact(slices.Clone(v.servers))) != 1 {
			t.Errorf("client %d was on servers %v, and lost %d sessions", i, v.servers, v.lost)
		}
	}
	if len(used) != len(f.sites) {
		t.Fatalf("clients are on %v, not on all servers", used)
	}

	dead := visitors[0].servers[0]
	for i, s := range f.sites {
		if fmt.Sprint(i) == dead {
			s.stop()
		}
	}
	rounds(after)
	for i := range visitors {
		v := &visitors[i]
		moves, lost := 0, 0
		if v.servers[0] == dead {
			moves = 1
			if f.issues != "" {
				lost = 1 // with the server
			}
		}
		if got := len(slices.Compact(slices.Clone(v.servers))) - 1; got != moves || v.lost != lost {
			t.Errorf("client %d moved %d times and lost %d sessions (server %s is dead): %v; want %d and %d", i, got, v.lost, dead, v.servers, moves, lost)
		}
	}
}

// fenced returns the fenced blocks of a language.
func fenced(text, language string) (blocks []string) {
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(text, -1) {
		blocks = append(blocks, m[1])
	}
	return blocks
}

// module is the folder of the module.
const module = "../.."

// readFile reads a file of the module, by its path there.
func readFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(module, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// readme returns the program on the front page, and its script.
func readme(t *testing.T) (program, script string) {
	t.Helper()
	blocks := slices.DeleteFunc(fenced(readFile(t, "README.md"), "go"), func(code string) bool { return !strings.HasPrefix(code, "package main") })
	if len(blocks) != 1 {
		t.Fatalf("%d programs in README.md; want 1", len(blocks))
	}
	_, rest, _ := strings.Cut(blocks[0], "const stick = `")
	script, _, ok := strings.Cut(rest, "`")
	if !ok {
		t.Fatal("no script")
	}
	return blocks[0], script
}

// TestReadmeProgram builds the program on the front page and runs it in front
// of servers that share an address, as those of a newcomer do. Its clients all
// went to the first of the servers once, and when that died, they changed
// between the others with each request.
func TestReadmeProgram(t *testing.T) {
	if testing.Short() {
		return // TestRecipesStick has its script, and internal/manual compiles it
	}
	t.Parallel()
	program, _ := readme(t)
	f := startFleet(t, true, "")
	var addresses []string
	for _, s := range f.sites {
		addresses = append(addresses, fmt.Sprintf("{Address: %q}", s.Addr))
	}
	address := deadAddr(t, "")
	for was, is := range map[string]string{
		`{Address: "10.0.0.1"}, {Address: "10.0.0.2"}`: strings.Join(addresses, ", "),
		`":8080"`: fmt.Sprintf("%q", address),
	} {
		if strings.Count(program, was) != 1 {
			t.Fatalf("the program has %d times %s", strings.Count(program, was), was)
		}
		program = strings.ReplaceAll(program, was, is)
	}
	binary := build(t, program)
	cmd := exec.CommandContext(t.Context(), binary)
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	testwait.Until(t, "the program to listen", func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
		}
		return err == nil
	})

	clients := map[string]*http.Client{} // by the address that they have
	send := func(r *http.Request) *http.Response {
		if clients[r.RemoteAddr] == nil {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(r.RemoteAddr)}}
			tr := &http.Transport{DialContext: d.DialContext}
			t.Cleanup(tr.CloseIdleConnections)
			clients[r.RemoteAddr] = &http.Client{Transport: tr}
		}
		resp, err := clients[r.RemoteAddr].Do(r)
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	// The first client has the address of the servers.
	f.stays(t, "http://"+address+"/", send, func(r *http.Request, n int) { r.RemoteAddr = fmt.Sprintf("127.0.0.%d", 1+n) })
}

// build builds a program as if it were a package of the module.
func build(t *testing.T, program string) (binary string) {
	t.Helper()
	dir := t.TempDir()
	here, err := filepath.Abs(module)
	if err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(dir, "main.go")
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{
		filepath.Join(here, "examples", "readme", "main.go"): source,
	}})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{source: program, filepath.Join(dir, "overlay.json"): string(overlay)} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	binary = filepath.Join(dir, "program.exe")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-o", binary, "./examples/readme")
	cmd.Dir = module
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return binary
}

// byAddress gives each client an address; the first one has that of servers.
func byAddress(r *http.Request, n int) {
	r.RemoteAddr = fmt.Sprintf("192.0.2.%d:1000", n)
	if n == 0 {
		r.RemoteAddr = "127.0.0.1:1000"
	}
}

// throughHandler sends requests to a virtual service without a connection.
func throughHandler(vs *limpet.VirtualService) func(*http.Request) *http.Response {
	return func(r *http.Request) *http.Response {
		w := httptest.NewRecorder()
		vs.ServeHTTP(w, r)
		return w.Result()
	}
}

// TestRecipesStick runs the script of the front page and those of the documents
// that stick clients to servers, with real servers of which one dies.
func TestRecipesStick(t *testing.T) {
	t.Parallel()
	_, front := readme(t)
	recipes := map[string]string{"README.md": front}
	_, text, _ := strings.Cut(readFile(t, "docs/guides/scripts.md"), "\n## Recipes\n")
	for _, part := range strings.Split(text, "\n### ")[1:] {
		title, body, _ := strings.Cut(part, "\n")
		recipes[title] = strings.Join(fenced(body, "lua"), "")
	}
	recipes["examples/custompersistence"] = readFile(t, "examples/custompersistence/listing.lua")
	recipes["examples/referer"] = readFile(t, "examples/referer/listing.lua")

	oneAddress := func(r *http.Request, _ int) { r.RemoteAddr = "192.0.2.1:1000" }
	header := func(name string) func(*http.Request, int) {
		return func(r *http.Request, n int) {
			r.RemoteAddr = "192.0.2.1:1000"
			r.Header.Set(name, fmt.Sprintf("key-%d", n))
		}
	}
	tests := []struct {
		name    string
		pool    string
		issues  string // by the servers
		prepare func(*http.Request, int)
	}{
		{"README.md", "my_pool", "", byAddress},
		{"examples/custompersistence", "my_pool", "", byAddress},
		{"examples/referer", "my_pool", "", header("Referer")},
		{"Stick by the client's address", "app", "", byAddress},
		{"Stick by the server's session cookie", "app", "SESSION", oneAddress},
		{"Stick by a header that the client chooses", "app", "", header("X-Session-ID")},
		{"Stick by a header that the server issues", "app", "Mcp-Session-Id", oneAddress},
		{"Stick by a query argument", "app", "", func(r *http.Request, n int) {
			oneAddress(r, n)
			r.URL.RawQuery = fmt.Sprintf("x=1&session=key+%d", n)
		}},
		{"Stick by a segment of the path", "app", "", func(r *http.Request, n int) {
			oneAddress(r, n)
			r.URL.Path = fmt.Sprintf("/tenant/t%d/bills", n)
		}},
		{"Hash a key of your own", "app", "", func(r *http.Request, n int) {
			oneAddress(r, n)
			r.Host = fmt.Sprintf("t%d.example.com", n)
		}},
	}
	tested := map[string]bool{}
	for _, tt := range tests {
		tested[tt.name] = true
		for _, shared := range []bool{false, true} {
			name := tt.name + "/own addresses"
			if shared {
				name = tt.name + "/one address"
			}
			t.Run(name, func(t *testing.T) {
				if recipes[tt.name] == "" {
					t.Fatal("no such recipe")
				}
				script := recipes[tt.name]
				if !strings.HasPrefix(script, "-- HTTP") && !strings.HasPrefix(script, "\n-- HTTP") {
					script = "-- HTTP_REQ\n" + script
				}
				f := startFleet(t, shared, tt.issues)
				pool := lbpool.Config{Name: tt.pool, Servers: f.configs()}
				if strings.Contains(script, "chash") {
					pool.Algorithm = lbpool.ConsistentHash(lbpool.ConsistentHashConfig{Key: lbpool.HashCustom})
				}
				vs, err := limpet.New(limpet.Config{
					Pools:   []*lbpool.Pool{newPool(t, pool)},
					Scripts: []limpet.Script{compile(t, tt.name, script)},
				})
				if err != nil {
					t.Fatal(err)
				}
				f.stays(t, "http://www.example.com/", throughHandler(vs), tt.prepare)
			})
		}
	}
	for name, script := range recipes {
		if strings.Contains(script, "server_ip") && !tested[name] {
			t.Errorf("%s: not tested", name)
		}
	}
}

// TestNamedTableSticks runs the script of the front page with a table that has
// a name, as two pools need it. When a server died its clients went to another
// one with each request: only entries of the default table were corrected.
func TestNamedTableSticks(t *testing.T) {
	script := `-- HTTP_REQ
client = avi.vs.client_ip()
avi.pool.select("my_pool", avi.vs.table_lookup("my_pool", client, 0))
-- HTTP_RESP
avi.vs.table_insert("my_pool", client, avi.pool.server_ip(), 300)`
	for _, shared := range []bool{false, true} {
		t.Run(fmt.Sprintf("one address %v", shared), func(t *testing.T) {
			f := startFleet(t, shared, "")
			vs := newVirtualService(t, limpet.Config{
				Pools:   []*lbpool.Pool{newPool(t, lbpool.Config{Name: "my_pool", Servers: f.configs(), Algorithm: lbpool.RoundRobin()})},
				Scripts: []limpet.Script{compile(t, "stick", script)},
			})
			f.stays(t, "http://www.example.com/", throughHandler(vs), byAddress)
		})
	}
}
