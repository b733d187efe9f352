package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/limpetlb/limpet/cmd/limpet/internal/otlp"
	"github.com/limpetlb/limpet/internal/testfiles"
)

// hangLimit is how long a test waits for what should happen at once.
const hangLimit = time.Minute

// buildDir is where build has put the binary; TestMain removes it.
var buildDir string

// build makes the binary, once.
var build = sync.OnceValues(func() (string, error) {
	var err error
	if buildDir, err = os.MkdirTemp("", "limpet-command"); err != nil {
		return "", err
	}
	path := filepath.Join(buildDir, "limpet")
	out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return path, err
})

// A process is the command "limpet serve" under way.
type process struct {
	*testing.T
	cmd   *exec.Cmd
	lines chan string // of the log
	read  []string    // what await has passed
	url   string

	serving string // the line that says so
}

// teapotRule answers all requests without a server; teapot listens, too.
const (
	teapotRule = "httpSecurity: [{name: all, action: {respond: {status: 418}}}]\n"
	teapot     = "listen: 127.0.0.1:0\n" + teapotRule
)

// start runs the binary, and waits until it serves.
func start(t *testing.T, config string) *process {
	t.Helper()
	return launch(t, config).serve()
}

// startAs runs a command that runs the binary, with more in its environment.
func startAs(t *testing.T, env []string, command ...string) *process {
	t.Helper()
	return launchAs(t, env, command...).serve()
}

// serve waits until the process serves.
func (p *process) serve() *process {
	p.Helper()
	p.serving = p.await("msg=serving")
	p.url = "http://" + regexp.MustCompile(`address=(\S+)`).FindStringSubmatch(p.serving)[1]
	return p
}

// launch runs the binary.
func launch(t *testing.T, config string) *process {
	t.Helper()
	binary, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return launchAs(t, nil, binary, "serve", config)
}

func launchAs(t *testing.T, env []string, command ...string) *process {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*hangLimit)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = append(os.Environ(), env...)
	return startCommand(t, cmd)
}

func startCommand(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{T: t, cmd: cmd, lines: make(chan string, 10_000)}
	errs, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.lines)
		for s := bufio.NewScanner(errs); s.Scan(); {
			p.lines <- s.Text()
		}
	}()
	return p
}

// await reads the log up to a line that contains text, and returns that.
func (p *process) await(text string) string {
	p.Helper()
	timer := time.NewTimer(hangLimit)
	defer timer.Stop()
	last := ""
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				p.Fatalf("the process ended before it logged %q; its last line was %s", text, last)
			}
			if strings.Contains(line, text) {
				return line
			}
			last = line
			p.read = append(p.read, line)
		case <-timer.C:
			p.Fatalf("%q did not come in the log", text)
		}
	}
}

func (p *process) signal(s os.Signal) {
	p.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.Fatal(err)
	}
}

// end stops the process, which must end well.
func (p *process) end() {
	p.Helper()
	p.signal(syscall.SIGTERM)
	p.await("msg=stopped")
	for range p.lines { // up to the end
	}
	if err := p.cmd.Wait(); err != nil {
		p.Errorf("the process ended with %v", err)
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	client := &http.Client{
		Timeout: hangLimit, Transport: &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	res, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d %s", res.StatusCode, body)
}

// TestServe takes the real binary through its life: it serves, reads its
// configuration anew, keeps the old one where the new one has a fault, keeps
// tables and limits, and lets requests under way end when it is stopped.
func TestServe(t *testing.T) {
	slow, release := make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(slow)
			<-release
		}
		io.WriteString(w, "server, "+r.Header.Get("X-Visits"))
	}))
	defer server.Close()
	const script = `-- HTTP_REQ
visits = (avi.vs.table_lookup("visits", "all", 0) or 0) + 1
avi.vs.table_remove("visits", "all")
avi.vs.table_insert("visits", "all", visits, 3600)
avi.http.replace_header("X-Visits", "visit " .. visits .. " OPEN" .. avi.vs.get_open_conns())
if avi.http.get_path() == "/limited" and avi.vs.ratelimit.exceed("few", "k") then avi.http.response(429, {}, "limited") end
`
	config := fmt.Sprintf(`listen: 127.0.0.1:0
name: first
pools: [{name: web, servers: [{address: %s}], healthMonitors: [{checker: tcp, interval: 1s}]}]
rateLimiters: [{name: few, count: 1, period: 1h}]
scripts: [{name: Visits, file: visits.lua}]
`, server.Listener.Addr())
	dir := testfiles.Write(t, map[string]string{"limpet.yaml": config, "visits.lua": script})
	rewrite := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := start(t, filepath.Join(dir, "limpet.yaml"))
	if !strings.Contains(strings.Join(p.read, "\n"), "server state changed") {
		p.await("server state changed")
	}
	for path, want := range map[string]string{"/": "200 server, visit 1 OPEN1"} {
		if got := get(t, p.url+path); got != want {
			t.Errorf("GET %s: %s, not %s", path, got, want)
		}
	}
	if got := get(t, p.url+"/limited"); !strings.HasPrefix(got, "200 server, visit 2 ") {
		t.Error(got)
	}

	// A bad file and a bad script change nothing.
	rewrite("limpet.yaml", strings.Replace(config, "name: first", "title: second", 1))
	p.signal(syscall.SIGHUP)
	if line := p.await("configuration not changed"); !strings.Contains(line, `limpet.yaml:2:1: unknown field \"title\"`) {
		t.Error(line)
	}
	rewrite("limpet.yaml", config)
	rewrite("visits.lua", script+"if")
	p.signal(syscall.SIGHUP)
	if line := p.await("configuration not changed"); !strings.Contains(line, "Visits_on_http_req.ds:7:") {
		t.Error(line)
	}
	rewrite("visits.lua", strings.Replace(script, `"few"`, `"fews"`, 1))
	p.signal(syscall.SIGHUP)
	if line := p.await("configuration not changed"); !strings.Contains(line, `visits.lua:6: rate limiter \"fews\" not found; did you mean \"few\"?`) {
		t.Error(line)
	}
	if got := get(t, p.url+"/limited"); got != "429 limited" {
		t.Error(got)
	}

	// A good one changes what it says. Entries and tokens stay, and the
	// server stays up although nothing has checked it since.
	rewrite("visits.lua", strings.Replace(script, `"visit "`, `"VISIT "`, 1))
	p.signal(syscall.SIGHUP)
	p.await("configuration changed")
	if got := get(t, p.url); !strings.HasPrefix(got, "200 server, VISIT 4 ") {
		t.Error(got)
	}
	if got := get(t, p.url+"/limited"); got != "429 limited" {
		t.Error(got)
	}

	answer := make(chan string, 1)
	go func() { answer <- get(t, p.url+"/slow") }()
	<-slow
	p.signal(syscall.SIGTERM)
	select {
	case got := <-answer:
		t.Errorf("an answer before there could be one: %s", got)
	default:
	}
	close(release)
	if got := <-answer; !strings.HasPrefix(got, "200 server, VISIT 6 ") {
		t.Error(got)
	}
	p.await("msg=stopped")
	for range p.lines {
	}
	if err := p.cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// TestServeOnce: the shop's configuration as a whole can be served.
func TestServeOnce(t *testing.T) {
	dir := testfiles.Write(t, shopFiles)
	p := start(t, filepath.Join(dir, "shop.yaml"))
	if got := get(t, p.url+"/older"); !strings.HasPrefix(got, "301 ") {
		t.Error(got)
	}
	p.signal(syscall.SIGHUP)
	p.await("configuration unchanged")
	p.end()
}

// The death of the log's reader was the death of the service. A reader that
// stops, as a full disk does, stopped the service, too, and only SIGKILL ended
// it.
func TestServeWithoutLogReader(t *testing.T) {
	for name, c := range map[string]struct {
		gone     bool // the reader; else it has stopped
		requests int  // each is logged
	}{
		"gone":    {true, 3},
		"stopped": {false, 1000}, // with more lines than the pipe holds
	} {
		t.Run(name, func(t *testing.T) {
			binary, err := build()
			if err != nil {
				t.Fatal(err)
			}
			dir := testfiles.Write(t, shopFiles)
			ctx, cancel := context.WithTimeout(t.Context(), 2*hangLimit)
			defer cancel()
			cmd := exec.CommandContext(ctx, binary, "serve", filepath.Join(dir, "shop.yaml"))
			log, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer log.Close()
			cmd.Stderr = w
			err = cmd.Start()
			w.Close()
			if err != nil {
				t.Fatal(err)
			}
			url := ""
			for s := bufio.NewScanner(log); url == "" && s.Scan(); {
				if found := regexp.MustCompile(`msg=serving address=(\S+)`).FindStringSubmatch(s.Text()); found != nil {
					url = "http://" + found[1]
				}
			}
			if c.gone {
				log.Close()
			}
			for range c.requests {
				if got := get(t, url+"/older"); !strings.HasPrefix(got, "301 ") {
					t.Fatal(got)
				}
			}
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("the process ended with %v", err)
			}
		})
	}
}

// TestServeTLS serves over TLS and HTTP/2, and stops when its context ends.
func TestServeTLS(t *testing.T) {
	example := httptest.NewUnstartedServer(nil)
	example.EnableHTTP2 = true
	example.StartTLS() // for its certificate
	defer example.Close()
	cert := example.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := testfiles.Write(t, map[string]string{
		"cert.pem":    string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})),
		"key.pem":     string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})),
		"hello.lua":   "-- HTTP_REQ\navi.http.response(200, {}, avi.ssl.protocol() .. ' ' .. avi.vs.name())\n",
		"limpet.yaml": "listen: 127.0.0.1:0\nname: secure\ntls: {certificate: cert.pem, key: key.pem}\nscripts: [{file: hello.lua}]\n",
	})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	r, w := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"serve", filepath.Join(dir, "limpet.yaml")}, io.Discard, w)
		w.Close()
	}()
	lines := bufio.NewScanner(r)
	if !lines.Scan() {
		t.Fatal("no log")
	}
	address := regexp.MustCompile(`msg=serving address=(\S+) vs=secure`).FindStringSubmatch(lines.Text())
	if address == nil {
		t.Fatal(lines.Text())
	}
	go func() {
		for lines.Scan() { // up to the end
		}
	}()
	client := example.Client()
	res, err := client.Get("https://" + address[1])
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil || string(body) != "TLSv1.3 secure" || res.ProtoMajor != 2 {
		t.Errorf("%s %q %v", res.Proto, body, err)
	}
	client.CloseIdleConnections()
	stop()
	if status := <-ended; status != ok {
		t.Errorf("status %d", status)
	}
}

// TestServePools serves from what pools can have beside servers: TLS to them,
// a backup, discoveries, and a cookie that binds clients; the same after the
// file was read anew.
func TestServePools(t *testing.T) {
	answer := func(text string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) })
	}
	secure := httptest.NewUnstartedServer(answer("over TLS"))
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	plain, found := httptest.NewServer(answer("backup")), httptest.NewServer(answer("found"))
	defer secure.Close()
	defer plain.Close()
	defer found.Close()
	_, port, err := net.SplitHostPort(found.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	dir := testfiles.Write(t, map[string]string{
		"ca.pem": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})),
		"limpet.yaml": fmt.Sprintf(`listen: 127.0.0.1:0
transport: {tls: &tls {ca: ca.pem, serverName: example.com}}
pools:
  - name: secure
    scheme: https
    servers: [{address: %s}]
    algorithm: {consistentHash: {key: header, header: X-Key, loadFactor: 1.5}}
    healthMonitors: &quick
      - {checker: {http: {path: /, tls: *tls, accept: [{begin: 200, end: 299}], header: {x-check: [a]}}}, interval: 1s, successes: 1}
    queue: {length: 10, timeout: 1s, order: firstInFirstOut}
    passive: &passive {failures: 5, timeouts: true}
  - {name: down, servers: [{address: %s}], failAction: {kind: backup, backup: plain}, healthMonitors: *quick, passive: {<<: *passive, disabled: true}}
  - {name: plain, servers: [{address: %s}]}
  - {name: none, servers: [{address: 192.0.2.1, disabled: true}], failAction: {kind: respond, status: 200, body: closed}}
  - {name: found, discoveries: [{finder: {ipGroup: {group: Servers, port: %s}}, interval: 1s}]}
ipGroups: [{name: Servers, entries: [127.0.0.1]}]
persistence: {httpCookie: {name: bound, httpOnly: true, sameSite: lax, keys: [{id: a, secret: %s}]}}
persistenceHeader: X-Persistence
logging: {significantRate: -1, otherRate: -1}
httpRequest:
  - {name: pool down, match: {path: {op: equals, values: [/down]}}, action: {modify: {pool: {name: down}}}}
  - {name: pool none, match: {path: {op: equals, values: [/none]}}, action: {modify: {pool: {name: none}}}}
  - {name: pool found, match: {path: {op: equals, values: [/found]}}, action: {modify: {pool: {name: found}}}}
`, secure.Listener.Addr(), closed.Addr(), plain.Listener.Addr(), port, base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32)))),
	})
	p := start(t, filepath.Join(dir, "limpet.yaml"))
	for round := range 2 {
		for path, want := range map[string]string{"/": "200 over TLS", "/down": "200 backup", "/none": "200 closed", "/found": "200 found"} {
			got := ""
			for deadline := time.Now().Add(hangLimit); got != want && time.Now().Before(deadline); <-time.After(10 * time.Millisecond) {
				got = get(t, p.url+path) // monitors and discoveries need a moment
			}
			if got != want {
				t.Errorf("round %d: %s: %s, not %s", round, path, got, want)
			}
		}
		res, err := http.Get(p.url)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if c := res.Header.Get("Set-Cookie"); !strings.HasPrefix(c, "bound=") || !strings.HasSuffix(c, "; HttpOnly; SameSite=Lax") {
			t.Errorf("cookie %q", c)
		}
		if res.Header.Get("X-Persistence") != "miss" {
			t.Error(res.Header)
		}
		p.signal(syscall.SIGHUP)
		p.await("configuration unchanged")
	}
	p.end()
}

// What keeps the command from serving is reported, with status 1.
func TestServeFails(t *testing.T) {
	dir := testfiles.Write(t, map[string]string{
		"fault.yaml": "defaultPool: none\n", "listen.yaml": "listen: 192.0.2.1:1\nscripts: [{file: a.lua}]\n", "a.lua": "-- HTTP_REQ\n",
		"tls.yaml": "listen: 127.0.0.1:0\ntls: {certificate: none.pem, key: none.key}\n",
	})
	for file, want := range map[string]string{
		"fault.yaml": `limpet: DIR/fault.yaml:1:14: defaultPool: "none": there is no such pool`, "listen.yaml": "192.0.2.1:1",
		"tls.yaml": "limpet: DIR/tls.yaml:2:6: tls: open DIR/none.pem", "none.yaml": "limpet: open DIR/none.yaml: no such file",
	} {
		if status, _, errs := invoke(t, dir, "serve", "DIR/"+file); status != failed || !strings.Contains(errs, want) {
			t.Errorf("%s: status %d, %s", file, status, errs)
		}
	}
}

// Clients keep their servers when the file is read anew, whatever attribute of
// their cookie has changed, and are distinguished by pool. That cookies without
// keys end with the process is said at the start.
func TestServeKeepsClients(t *testing.T) {
	var servers [2]string
	for pool := range servers {
		var list []string
		for i := range 3 {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "%d-%d", pool, i) }))
			defer s.Close()
			list = append(list, "{address: "+s.Listener.Addr().String()+"}")
		}
		servers[pool] = strings.Join(list, ", ")
	}
	text := fmt.Sprintf(`listen: 127.0.0.1:0
pools:
  - {name: web, servers: [%s], algorithm: roundRobin, healthMonitors: [{checker: {tcp: {}}, interval: 30s}]}
  - {name: api, servers: [%s], algorithm: roundRobin, persistence: none}
  - {name: shop, servers: [%[2]s], algorithm: roundRobin, persistence: other}
persistence: {httpCookie: {}}
persistenceProfiles: [{name: other, httpCookie: {name: OTHER}}]
persistenceHeader: X-Persistence
httpRequest:
  - {name: api, match: {path: {op: equals, values: [/api]}}, action: {modify: {pool: {name: api}}}}
  - {name: shop, match: {path: {op: equals, values: [/shop]}}, action: {modify: {pool: {name: shop}}}}
`, servers[0], servers[1])
	dir := testfiles.Write(t, map[string]string{"limpet.yaml": text})
	p := start(t, filepath.Join(dir, "limpet.yaml"))
	if n := strings.Count(strings.Join(p.read, "\n"), "persistence cookies have no configured keys"); n != 2 {
		t.Errorf("%d warnings of cookies without keys, want 2:\n%s", n, strings.Join(p.read, "\n"))
	}
	jars := make([]http.CookieJar, 10)
	server := map[string]string{}
	for round, change := range []string{"", "httpCookie: {httpOnly: true}", "httpCookie: {sameSite: lax, timeout: 1h}", "httpCookie: {}"} {
		if round > 0 {
			if err := os.WriteFile(filepath.Join(dir, "limpet.yaml"), []byte(strings.Replace(text, "httpCookie: {}", change, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			p.signal(syscall.SIGHUP)
			p.await("configuration changed")
		}
		for i := range jars {
			if round == 0 {
				jar, err := cookiejar.New(nil)
				if err != nil {
					t.Fatal(err)
				}
				jars[i] = jar
			}
			client := &http.Client{Jar: jars[i]}
			for _, path := range []string{"/", "/api", "/shop", "/"} {
				res, err := client.Get(p.url + path)
				if err != nil {
					t.Fatal(err)
				}
				body, _ := io.ReadAll(res.Body)
				res.Body.Close()
				key, outcome := fmt.Sprint(i, path), res.Header.Get("X-Persistence")
				switch {
				case path == "/api":
					if outcome != "" {
						t.Errorf("%s is bound: %s", path, outcome)
					}
				case server[key] == "":
					server[key] = string(body)
				case server[key] != string(body) || outcome != "hit":
					t.Errorf("round %d: %s went to %s after %s: %s", round, key, body, server[key], outcome)
				}
			}
		}
	}
	p.end()
}

// certificates are files with two certificates for example.com and their keys.
func certificates(t *testing.T) (files map[string]string, client func() *http.Client) {
	t.Helper()
	example := httptest.NewUnstartedServer(nil)
	example.StartTLS() // for its certificate
	example.Close()
	first := example.TLS.Certificates[0]
	files = map[string]string{}
	put := func(name string, cert []byte, key any) {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		files[name+".pem"] = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))
		files[name+".key"] = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	}
	put("a", first.Certificate[0], first.PrivateKey)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	made := &x509.Certificate{SerialNumber: big.NewInt(2), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"b.example.com"}}
	second, err := x509.CreateCertificate(rand.Reader, made, made, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	put("b", second, key)
	return files, func() *http.Client {
		return &http.Client{Timeout: hangLimit, Transport: &http.Transport{
			DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		}}
	}
}

// What serve refuses, check passed: the files of the certificate, and where to
// listen. An empty "tls" was plain HTTP.
func TestCheckIsServe(t *testing.T) {
	files, _ := certificates(t)
	const service = "\nhttpSecurity: [{name: a, action: close}]\n"
	cases := map[string]struct{ text, want string }{
		"missing":        {"tls: {certificate: no.pem, key: a.key}", "DIR/missing.yaml:1:6: tls: open DIR/no.pem: no such file or directory"},
		"no key file":    {"tls: {certificate: a.pem, key: no.key}", "tls: open DIR/no.key: no such file or directory"},
		"swapped":        {"tls: {certificate: a.key, key: a.pem}", "tls: certificate DIR/a.key and key DIR/a.pem: tls: "},
		"another":        {"tls: {certificate: a.pem, key: b.key}", "tls: certificate DIR/a.pem and key DIR/b.key: tls: private key"},
		"no key":         {"tls: {certificate: a.pem}", "tls: DIR/a.pem: no private key in it, and no key in another file"},
		"no certificate": {"tls: {key: a.key}", "tls: want a certificate"},
		"empty":          {"tls: {}", "tls: want a certificate, certificates or a directory"},
		"empty texts":    {"tls: {certificate: '', key: ''}", "tls: want a certificate, certificates or a directory"},
		"of servers":     {"transport: {tls: {certificate: a.pem}}", "transport.tls: want both certificate and key"},
		"listen":         {"listen: foo", "listen: address foo: missing port in address"},
	}
	for name, c := range cases {
		files[name+".yaml"] = c.text + service
	}
	files["nothing.yaml"] = ""
	files["idle.yaml"] = "listen: 127.0.0.1:0\nname: idle\nnetworkSecurity: [{name: a, action: allow}]\n"
	for _, name := range []string{"nothing", "idle"} {
		cases[name] = struct{ text, want string }{want: "DIR/" + name + ".yaml: no service: without pools, scripts and rules that answer every request gets status 503"}
	}
	dir := testfiles.Write(t, files)
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			checked, out, _ := invoke(t, dir, "check", "DIR/"+name+".yaml")
			served, _, errs := invoke(t, dir, "serve", "DIR/"+name+".yaml")
			if checked != failed || served != failed || !strings.Contains(out, c.want) || errs != "limpet: "+out {
				t.Errorf("check: status %d, %s\nserve: status %d, %s", checked, out, served, errs)
			}
		})
	}
}

// A byte order mark was a fault in scripts, configurations and certificates.
func TestByteOrderMark(t *testing.T) {
	files, _ := certificates(t)
	files["a.lua"] = "-- HTTP_REQ\nx = 1\n"
	files["words.csv"] = "a\n"
	files["list.txt"] = "192.0.2.1\n"
	files["ca.pem"] = files["a.pem"]
	files["limpet.yaml"] = `scripts: [{file: a.lua}]
tls: {certificate: a.pem, key: a.key}
transport: {tls: {ca: ca.pem}}
stringGroups: [{name: words, file: words.csv}]
ipGroups: [{name: list, file: list.txt}]
`
	for name, text := range files {
		files[name] = "\ufeff" + text
	}
	if status, out, errs := invoke(t, testfiles.Write(t, files), "check", "DIR/limpet.yaml", "DIR/a.lua"); status != ok || out+errs != "" {
		t.Errorf("status %d, %s%s", status, out, errs)
	}
}

// SIGHUP said that a configuration had changed, and no word of the listener,
// nor of a certificate that is not there. The listener follows now.
func TestServeReloadsListener(t *testing.T) {
	files, client := certificates(t)
	const text = "listen: 127.0.0.1:0\nhttpSecurity: [{name: a, action: {respond: {status: 418}}}]\n"
	const secure = text + "tls: {certificate: a.pem, key: a.key}\n"
	files["limpet.yaml"] = secure
	dir := testfiles.Write(t, files)
	p := start(t, filepath.Join(dir, "limpet.yaml"))
	if last := p.serving; !strings.Contains(last, "vs=limpet") {
		t.Errorf("no name in %s", last)
	}
	url := strings.Replace(p.url, "http:", "https:", 1)
	name := func() string {
		t.Helper()
		res, err := client().Get(url)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return strings.Join(res.TLS.PeerCertificates[0].DNSNames, " ")
	}
	reload := func(text string, want ...string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "limpet.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		p.signal(syscall.SIGHUP)
		for _, w := range want {
			p.await(w)
		}
	}
	first := name()
	reload(strings.ReplaceAll(secure, "a.key", "no.key"), "configuration not changed")
	reload(strings.ReplaceAll(secure, "a.key", "b.key"), "configuration not changed")
	if got := name(); got != first {
		t.Errorf("certificate of %s after a fault", got)
	}
	reload(strings.NewReplacer("a.pem", "b.pem", "a.key", "b.key").Replace(secure), "configuration changed")
	if got := name(); got != "b.example.com" {
		t.Errorf("certificate of %s, not the new one", got)
	}
	reload(text+"tables: {maxEntries: 5}\n", `level=INFO msg="configuration changed" file=`+filepath.Join(dir, "limpet.yaml")+` changed=2`)
	if got := get(t, p.url); !strings.HasPrefix(got, "418 ") {
		t.Errorf("without TLS: %s", got)
	}
	reload(strings.Replace(secure, ":0", ":http-no", 1), "configuration not changed")
	reload(strings.Replace(secure, "127.0.0.1:0", "192.0.2.1:1", 1), "listen: listen tcp 192.0.2.1:1: bind: ")
	if got := get(t, p.url); !strings.HasPrefix(got, "418 ") {
		t.Errorf("after an address that cannot be opened: %s", got)
	}
	reload(strings.Replace(secure, "127.0.0.1:0", "127.0.0.2:0", 1))
	url = "https://" + regexp.MustCompile(`address=(\S+)`).FindStringSubmatch(p.await("msg=serving"))[1]
	p.await("msg=\"configuration changed\"")
	if got := name(); got != first {
		t.Errorf("certificate of %s at the new address", got)
	}
	p.end()
}

// When requests had to be cut off, the status was that of a fault.
func TestServeCutsOff(t *testing.T) {
	begun := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
	}))
	defer server.Close()
	dir := testfiles.Write(t, map[string]string{"limpet.yaml": fmt.Sprintf("listen: 127.0.0.1:0\nprocess: {drain: {timeout: 1ms}}\npools: [{name: web, servers: [{address: %s}]}]\n", server.Listener.Addr())})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	log, w := io.Pipe()
	s := &service{file: filepath.Join(dir, "limpet.yaml"), traces: otlp.New(""), log: slog.New(slog.NewTextHandler(w, nil)), after: time.After}
	ended := make(chan int, 1)
	go func() {
		ended <- s.run(ctx, io.Discard)
		w.Close()
	}()
	lines := bufio.NewScanner(log)
	lines.Scan()
	address := regexp.MustCompile(`msg=serving address=(\S+)`).FindStringSubmatch(lines.Text())
	if address == nil {
		t.Fatal(lines.Text())
	}
	go func() {
		for lines.Scan() { // up to the end
		}
	}()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		if res, err := client.Get("http://" + address[1]); err == nil {
			res.Body.Close()
		}
	}()
	<-begun
	stop()
	if status := <-ended; status != cutOff {
		t.Errorf("status %d", status)
	}
	<-gone
}

// With a delay, clients are told to leave, and served, before listeners close.
func TestServeDrainDelay(t *testing.T) {
	dir := testfiles.Write(t, map[string]string{"limpet.yaml": "listen: 127.0.0.1:0\nprocess: {drain: {delay: 90s}}\nhttpSecurity: [{name: all, action: {respond: {status: 204}}}]\n"})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	delays, passed := make(chan time.Duration, 1), make(chan time.Time)
	log, w := io.Pipe()
	s := &service{file: filepath.Join(dir, "limpet.yaml"), traces: otlp.New(""), log: slog.New(slog.NewTextHandler(w, nil)), after: func(d time.Duration) <-chan time.Time {
		delays <- d
		return passed
	}}
	ended := make(chan int, 1)
	go func() {
		ended <- s.run(ctx, io.Discard)
		w.Close()
	}()
	lines := bufio.NewScanner(log)
	lines.Scan()
	address := regexp.MustCompile(`address=(\S+)`).FindStringSubmatch(lines.Text())[1]
	go func() {
		for lines.Scan() { // up to the end
		}
	}()
	stop()
	if d := <-delays; d != 90*time.Second {
		t.Errorf("a delay of %v", d)
	}
	res, err := http.Get("http://" + address)
	if err != nil {
		t.Fatalf("during the delay: %v", err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusNoContent || !res.Close {
		t.Errorf("status %d, last of its connection: %t", res.StatusCode, res.Close)
	}
	close(passed)
	if status := <-ended; status != ok {
		t.Errorf("status %d", status)
	}
}
