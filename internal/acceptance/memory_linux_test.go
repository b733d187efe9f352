package acceptance_test

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/procmem"
	"github.com/limpetlb/limpet/internal/redistest"
	"github.com/limpetlb/limpet/internal/testchild"
	"github.com/limpetlb/limpet/internal/testrace"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence/redisstore"
)

// The tests of this file run a virtual service in a process of its own, with
// the memory limit that the documents advise and the limits that follow from
// it. Clients and servers are in the process of the test.

// childProcs is how many processors such a process uses: more scripts than that
// may run at a time only if the memory allows it.
const childProcs = 2

// A child is such a process.
type child struct {
	t      *testing.T
	url    string
	memory int64 // that the limits are derived from
	idle   int64 // what it has when it starts, in bytes
	*testchild.Child
}

// startChild starts the process of the test that is running, with more
// variables in its environment. A machine with some bytes is a prefix of the
// command line.
func startChild(t *testing.T, machine []string, env ...string) *child {
	t.Helper()
	test := testchild.Command(t)
	args := slices.Concat(machine, test.Args)
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Env = slices.DeleteFunc(test.Env, func(v string) bool { return strings.HasPrefix(v, "GO") })
	cmd.Env = append(append(cmd.Env, fmt.Sprint("GOMAXPROCS=", childProcs)), env...)
	c := &child{t: t, Child: testchild.Start(t, cmd)}
	if _, err := fmt.Sscan(c.Line(), &c.url, &c.memory, &c.idle); err != nil {
		t.Fatal(err)
	}
	return c
}

// end ends the process, and returns how many bytes it had at its peak.
func (c *child) end() (peak int64) {
	c.t.Helper()
	peak, err := strconv.ParseInt(c.End()[0], 10, 64)
	if err != nil {
		c.t.Fatal(err)
	}
	return peak
}

// formula is what docs/operations/sizing.md says that the process fills at
// most.
func (c *child) formula(connections int64) int64 {
	concurrent := min(max(c.memory/4/(64<<20), childProcs), 1024)
	return c.idle + 64<<20*concurrent + c.memory/4 + c.memory/4 + 40<<10*connections
}

// fits ends the process, and reports a peak of more than most bytes.
func (c *child) fits(connections, most int64) {
	c.t.Helper()
	peak, formula := c.end(), c.formula(connections)
	c.t.Logf("%d MiB at the peak, %d MiB when idle; at most %d MiB are wanted (%.2f); the formula has %d MiB (%.2f) for %d MiB", peak>>20, c.idle>>20,
		most>>20, float64(peak)/float64(most), formula>>20, float64(peak)/float64(formula), c.memory>>20)
	if peak > most {
		c.t.Errorf("the process came to have %d MiB, want at most %d", peak>>20, most>>20)
	}
}

// serveChild is the process itself.
func serveChild(t *testing.T, cfg limpet.Config) {
	t.Helper()
	vs := newVirtualService(t, cfg)
	srv, ln := limpet.NewServer(vs), listen(t, "")
	served := make(chan error, 1)
	go func() { served <- srv.Serve(vs.Listener(ln)) }()
	fmt.Printf("http://%s %d %d\n", ln.Addr(), procmem.Bytes(), peakOf(t))
	testchild.Wait()
	fmt.Println(peakOf(t))
	srv.Close()
	<-served
}

// peakOf returns how many bytes of memory this process had at its peak. (What
// getrusage says begins with what its parent had.)
func peakOf(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ = bytes.Cut(text, []byte("VmHWM:"))
	kib, err := strconv.ParseInt(string(bytes.Fields(text)[0]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// A tally counts statuses of answers.
type tally struct {
	mu       sync.Mutex
	statuses map[int]int
}

func (c *tally) add(status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.statuses == nil {
		c.statuses = map[int]int{}
	}
	c.statuses[status]++
}

// isChild reports whether this is the process that serves; skip, that the race
// detector would take the memory that is measured, or that it takes too long.
func isChild() (child, skip bool) {
	return testchild.Running(), testrace.Enabled || testing.Short()
}

// In a process with 512 MiB and tables on Redis, 93 of 100 requests of 8
// clients to the published listing got 503, and of scripts that used a fifth of
// their instructions 77 of 100 got 500 with 128 clients.
func TestScriptsUnderLoad(t *testing.T) {
	serves, skip := isChild()
	if skip {
		return
	}
	if serves {
		store, err := redisstore.New(redisstore.Config{Addresses: []string{os.Getenv("LIMPET_REDIS")}, Timeout: testwait.Limit})
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		var servers []lbpool.ServerConfig
		for address := range strings.FieldsSeq(os.Getenv("LIMPET_SERVERS")) {
			servers = append(servers, lbpool.ServerConfig{Address: address})
		}
		busy := onRequest(t, "busy", `
			local share = tonumber(avi.http.get_path():sub(2)) or 0
			local n = 0
			for i = 1, share * 5000 do n = n + i end`) // two instructions a turn
		serveChild(t, limpet.Config{
			Pools:   []*lbpool.Pool{newPool(t, lbpool.Config{Name: "my_pool", Servers: servers})},
			Scripts: []limpet.Script{compile(t, "stick", customPersistence), busy}, Tables: store,
		})
		return
	}
	redis := redistest.Start(t)
	var servers []string
	for i := range 4 {
		name := fmt.Sprint("server ", i)
		servers = append(servers, startServer(t, fmt.Sprintf("127.0.1.%d:0", i+1), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, name) })))
	}
	c := startChild(t, nil, "GOMEMLIMIT=512MiB", "LIMPET_REDIS="+redis.Addr, "LIMPET_SERVERS="+strings.Join(servers, " "))
	for _, tt := range []struct {
		name           string
		clients, times int
		path           string
	}{
		{"the listing, 8 clients", 8, 40, "/"},
		{"the listing, 128 clients", 128, 10, "/"},
		{"a fifth of the instructions, 128 clients", 128, 4, "/20"},
		{"six tenths of the instructions, 8 clients", 8, 8, "/60"},
	} {
		times := tt.times
		if *full {
			times *= 10
		}
		var answers tally
		var wg sync.WaitGroup
		for range tt.clients {
			wg.Go(func() {
				tr := new(http.Transport)
				defer tr.CloseIdleConnections()
				client := &http.Client{Transport: tr, Timeout: 4 * testwait.Limit}
				var last string
				for i := range times {
					if i == times/2 { // another port, another key
						tr.CloseIdleConnections()
						last = ""
					}
					res, body, err := try(client, newRequest(t, "GET", c.url+tt.path, nil))
					if err != nil {
						t.Error(err)
						return
					}
					answers.add(res.StatusCode)
					if last != "" && body != last {
						t.Errorf("%q after %q", body, last)
					}
					last = body
				}
			})
		}
		wg.Wait()
		t.Logf("%s: %v", tt.name, answers.statuses)
		if answers.statuses[200] != tt.clients*times {
			t.Errorf("%s: %v, want 200 for all %d", tt.name, answers.statuses, tt.clients*times)
		}
	}
	if keys := redis.Command("DBSIZE"); keys == ":0\r\n" {
		t.Error("nothing is on Redis")
	}
	c.fits(128, c.formula(128))
}

// 64 clients that uploaded 31 MiB each to a script that had asked for their
// bodies made a process with 1 GiB take 2.9 to 4.3 GB. As many bodies are taken
// as fit, and arrive whole; the other clients are told to come back.
func TestUploads(t *testing.T) {
	serves, skip := isChild()
	if skip {
		return
	}
	if serves {
		serveChild(t, limpet.Config{
			Pools:   []*lbpool.Pool{poolOf(t, lbpool.ServerConfig{Address: os.Getenv("LIMPET_SERVERS")})},
			Scripts: []limpet.Script{onRequest(t, "bodies", "avi.http.set_request_body_buffer_size(32768)")},
		})
		return
	}
	const size = 31 << 20
	clients, memory := 16, "256MiB"
	if *full {
		clients, memory = 64, "1GiB"
	}
	bodies := make([]byte, size+clients)
	for i := range bodies {
		bodies[i] = byte(i * i >> 7)
	}
	var mu sync.Mutex
	come, all := 0, make(chan struct{})
	arrived := func() {
		mu.Lock()
		defer mu.Unlock()
		if come++; come == clients {
			close(all)
		}
	}
	server := startServer(t, "127.0.1.1:0", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := crc32.NewIEEE()
		_, err := io.Copy(h, r.Body)
		arrived()
		<-all // so that all are held at the same time
		fmt.Fprint(w, h.Sum32(), err)
	}))
	c := startChild(t, nil, "GOMEMLIMIT="+memory, "LIMPET_SERVERS="+server)
	upload := func(i int, announced bool) (status int) {
		body := bodies[i : i+size]
		r := newRequest(t, "POST", c.url+"/", bytes.NewReader(body))
		if !announced {
			r.ContentLength = -1
		}
		tr := new(http.Transport)
		defer tr.CloseIdleConnections()
		res, text, err := try(&http.Client{Transport: tr, Timeout: 4 * testwait.Limit}, r)
		switch {
		case err != nil:
			t.Errorf("client %d: %v", i, err)
			return 0
		case res.StatusCode == 200:
			if want := fmt.Sprint(crc32.ChecksumIEEE(body), nil); text != want {
				t.Errorf("client %d: its body arrived as %s, want %s", i, text, want)
			}
		case res.StatusCode == 503 && res.Header.Get("Retry-After") == "":
			t.Error("503 without Retry-After")
		}
		return res.StatusCode
	}
	var answers tally
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			status := upload(i, i%2 == 0)
			answers.add(status)
			if status != 200 {
				arrived()
			}
		})
	}
	wg.Wait()
	t.Logf("statuses %v", answers.statuses)
	if n := answers.statuses[200]; n == 0 || n+answers.statuses[503] != clients {
		t.Errorf("statuses %v, want some 200 and 503 for the others", answers.statuses)
	}
	for i := range 2 { // there is room again
		if status := upload(i, i == 0); status != 200 {
			t.Errorf("afterwards: %d", status)
		}
	}
	c.fits(int64(clients), c.formula(int64(clients)))
}

// 200 requests whose scripts kept 10 MB each while a slow server answered took
// 1.9 GB in a process that was given 256 MiB.
func TestKeptVariables(t *testing.T) {
	serves, skip := isChild()
	if skip {
		return
	}
	if serves {
		serveChild(t, limpet.Config{
			Pools: []*lbpool.Pool{poolOf(t, lbpool.ServerConfig{Address: os.Getenv("LIMPET_SERVERS")})},
			Scripts: []limpet.Script{compile(t, "keeps", `-- HTTP_REQ
				kept = {}
				for i = 1, 10 do kept[i] = ("x"):rep(1000000) .. i end
				-- HTTP_RESP
				avi.http.add_header("X-Kept", #kept)`)},
		})
		return
	}
	clients := 60
	if *full {
		clients = 200
	}
	server := startServer(t, "127.0.1.1:0", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-time.After(50 * time.Millisecond)
	}))
	c := startChild(t, nil, "GOMEMLIMIT=256MiB", "LIMPET_SERVERS="+server)
	var answers tally
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			tr := new(http.Transport)
			defer tr.CloseIdleConnections()
			res, _, err := try(&http.Client{Transport: tr, Timeout: 4 * testwait.Limit}, newRequest(t, "GET", c.url+"/", nil))
			if err != nil {
				t.Error(err)
				return
			}
			answers.add(res.StatusCode)
			if kept := res.Header.Get("X-Kept"); res.StatusCode == 200 && kept != "10" {
				t.Errorf("kept %q", kept)
			}
		})
	}
	wg.Wait()
	t.Logf("statuses %v", answers.statuses)
	if n := answers.statuses[200]; n == 0 || n+answers.statuses[503] != clients {
		t.Errorf("statuses %v, want some 200 and 503 for the others", answers.statuses)
	}
	c.fits(int64(clients), c.formula(int64(clients)))
}

// hoards are scripts that take all the memory that they can get, by path.
const hoards = `-- HTTP_REQ
	local path, t = avi.http.get_path(), {}
	if path == "/0" then
		for i = 1, 1e9 do t[i] = ("x"):rep(500000) .. i end
	elseif path == "/1" then
		for i = 1, 1e9 do t[i] = {i} end
	elseif path == "/2" then
		for i = 1, 1e9 do t["key" .. i] = i end
	elseif path == "/3" then
		for i = 1, 1e9 do local s = ("x"):rep(1000000):gsub("x", "y", 1) end
	elseif path == "/variables" then
		kept = t
		for i = 1, 10 do t[i] = ("x"):rep(1000000) .. i end
	else
		avi.http.set_request_body_buffer_size(32768)
	end
	-- HTTP_RESP
	avi.vs.log(#(kept or {}))`

// Without GOMEMLIMIT, 500 hostile scripts at a time took 3.9 GB: nobody had
// asked what the machine has. When bodies and variables took all that they may
// as well, a process took 1.2 GiB of 1 GiB, since nobody had reckoned with the
// garbage that the collector leaves.
func TestHoards(t *testing.T) {
	serves, skip := isChild()
	if skip {
		return
	}
	if serves {
		serveChild(t, limpet.Config{
			Pools:   []*lbpool.Pool{poolOf(t, lbpool.ServerConfig{Address: os.Getenv("LIMPET_SERVERS")})},
			Scripts: []limpet.Script{compile(t, "hoards", hoards)},
		})
		return
	}
	for _, tt := range []struct {
		name    string
		machine []string
		env     []string
		most    int64
	}{
		{"the machine's memory", machineOf(t, 1<<30), nil, 1 << 30},
		{"GOMEMLIMIT is nine tenths of it", nil, []string{"GOMEMLIMIT=922MiB"}, 1 << 30},
	} {
		t.Run(tt.name, func(t *testing.T) {
			clients := 24
			if *full {
				clients = 500
			}
			// The server answers when all that can be held is held, and those
			// that hoard have come and gone.
			arrived, leave := make(chan struct{}), make(chan struct{})
			server := startServer(t, "127.0.1.1:0", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				arrived <- struct{}{}
				<-leave
			}))
			c := startChild(t, tt.machine, append(tt.env, "LIMPET_SERVERS="+server)...)
			var answers tally
			var wg sync.WaitGroup
			answered := make(chan struct{})
			// come has clients come, and waits until each has its answer or
			// waits for the server.
			come := func(n int, path func(i int) string, body []byte) {
				for i := range n {
					r := newRequest(t, "POST", c.url+path(i), bytes.NewReader(body)).WithContext(t.Context())
					wg.Go(func() {
						tr := new(http.Transport)
						defer tr.CloseIdleConnections()
						res, _, err := try(&http.Client{Transport: tr, Timeout: 6 * testwait.Limit}, r)
						if err != nil {
							t.Error(err)
						} else {
							answers.add(res.StatusCode)
						}
						select {
						case <-leave:
						case answered <- struct{}{}:
						}
					})
				}
				for range n {
					select {
					case <-answered:
					case <-arrived:
					}
				}
			}
			come(12, func(int) string { return "/bodies" }, make([]byte, 31<<20))
			come(36, func(int) string { return "/variables" }, nil)
			come(clients, func(i int) string { return fmt.Sprint("/", i%4) }, nil)
			close(leave)
			wg.Wait()
			t.Logf("statuses %v", answers.statuses)
			if n := answers.statuses; n[500] == 0 || n[200] == 0 || n[200]+n[500]+n[503] != clients+48 {
				t.Errorf("statuses %v, want 500 for those that hoard, 200 for others, and 503 where there was no room", n)
			}
			c.fits(int64(clients+48), tt.most)
		})
	}
}

// machineOf returns the beginning of a command line that runs a program on what
// seems to be a machine with some bytes of memory; nothing where users may not
// have name spaces of their own, and the test is about this machine.
func machineOf(t *testing.T, memory int64) []string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "meminfo")
	if err := os.WriteFile(file, fmt.Appendf(nil, "MemTotal: %d kB\n", memory>>10), 0o600); err != nil {
		t.Fatal(err)
	}
	machine := []string{"unshare", "--user", "--map-root-user", "--mount", "sh", "-c", `mount --bind "$0" /proc/meminfo && exec "$@"`, file}
	if out, err := exec.CommandContext(t.Context(), machine[0], append(machine[1:], "true")...).CombinedOutput(); err != nil {
		t.Logf("not on a smaller machine: %v %s", err, out)
		return nil
	}
	return machine
}
