package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/redistest"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence/redisstore"
)

// instanceVariable is the environment variable that makes the test program an
// instance of limpet. It holds an instanceConfig.
const instanceVariable = "LIMPET_INTEGRATION_INSTANCE"

type instanceConfig struct {
	Redis   string
	Servers []string
}

// sticky sends a client, whom a header names, where it was before.
const sticky = `
-- HTTP Request Event --
client = avi.http.get_header("X-Client")
server = client and avi.vs.table_lookup(client)
if server then avi.pool.select("pool", server) end

-- HTTP Response Event --
if client and not server then
   local ip, port = avi.pool.get_server_info()
   avi.vs.table_insert(client, ip .. ":" .. port, 300)
end`

// runInstance serves until it is killed, and says where on the first line.
func runInstance() {
	fail := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	var c instanceConfig
	fail(json.Unmarshal([]byte(os.Getenv(instanceVariable)), &c))
	var servers []lbpool.ServerConfig
	for _, address := range c.Servers {
		servers = append(servers, lbpool.ServerConfig{Address: address})
	}
	pool, err := lbpool.New(lbpool.Config{Name: "pool", Servers: servers, Algorithm: lbpool.RoundRobin()})
	fail(err)
	script, err := datascript.Compile("sticky", datascript.Chunk{Source: sticky})
	fail(err)
	store, err := redisstore.New(redisstore.Config{Addresses: []string{c.Redis}, Timeout: testwait.Limit, WhenDown: redisstore.FailClosed})
	fail(err)
	vs, err := limpet.New(limpet.Config{Pools: []*lbpool.Pool{pool}, Scripts: []limpet.Script{{Script: script}}, Tables: store})
	fail(err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	fail(err)
	fmt.Println(ln.Addr())
	go func() { // the parent's end of the pipe closes with it
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	fail(http.Serve(ln, vs))
}

// An instance is a running process of limpet.
type instance struct {
	url  string
	kill func()
}

func startInstance(t *testing.T, c instanceConfig) instance {
	t.Helper()
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), instanceVariable+"="+string(text))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := sync.OnceFunc(func() {
		cmd.Process.Kill()
		cmd.Wait()
		stdin.Close()
	})
	t.Cleanup(kill)
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("the instance does not start: %v", err)
	}
	return instance{"http://" + strings.TrimSpace(line) + "/", kill}
}

// TestRedisInstances has a thousand clients alternate between two processes
// that share nothing but a Redis, one of which is killed and started again.
func TestRedisInstances(t *testing.T) {
	redis := redistest.Start(t)
	c := instanceConfig{Redis: redis.Addr}
	for i := range 3 {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "server ", i) }))
		defer s.Close()
		c.Servers = append(c.Servers, s.Listener.Addr().String())
	}
	instances := []instance{startInstance(t, c), startInstance(t, c)}
	const clients, parallel = 1000, 8
	transport := &http.Transport{MaxIdleConnsPerHost: parallel}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: testwait.Limit}
	get := func(instance, i int) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), testwait.Limit)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, "GET", instances[instance].url, nil)
		if err != nil {
			return "", err
		}
		r.Header.Set("X-Client", "client-"+strconv.Itoa(i))
		res, err := client.Do(r)
		if err != nil {
			return "", err
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if res.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %s", res.Status, body)
		}
		return string(body), err
	}
	servers := make([]string, clients)
	// all sends a request of every client to one instance or the other and
	// returns how many stuck.
	all := func(round int) int {
		var stuck [parallel]int
		var wg sync.WaitGroup
		for worker := range parallel {
			wg.Go(func() {
				for i := worker; i < clients; i += parallel {
					server, err := get((i+round)%2, i)
					if err != nil {
						t.Errorf("client %d: %v", i, err)
					}
					if servers[i] == "" {
						servers[i] = server
					}
					if servers[i] == server {
						stuck[worker]++
					}
				}
			})
		}
		wg.Wait()
		sum := 0
		for _, n := range stuck {
			sum += n
		}
		return sum
	}
	start := time.Now()
	for round := range 4 {
		if got := all(round); got != clients {
			t.Errorf("round %d: %d of %d clients stick", round, got, clients)
		}
	}
	each := time.Since(start) / (4 * clients)
	instances[0].kill()
	instances[0] = startInstance(t, c)
	for round := range 4 {
		if got := all(round); got != clients {
			t.Errorf("after the restart, round %d: %d of %d clients stick", round, got, clients)
		}
	}
	used := make(map[string]int)
	for _, server := range servers {
		used[server]++
	}
	if len(used) != len(c.Servers) {
		t.Errorf("clients are at %v: the test proves nothing", used)
	}
	t.Logf("%v, %v for a request", used, each)
}
