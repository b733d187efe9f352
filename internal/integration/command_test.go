package integration

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"

	"github.com/limpetlb/limpet/internal/testfiles"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/internal/websockettest"
)

// A command is the binary "limpet serve" under way, with the file limpet.yaml
// of a directory.
type command struct {
	*testing.T
	cmd   *exec.Cmd
	dir   string
	addr  string
	lines chan string // of the log
	tls   *tls.Config // of clients
}

// startCommand builds the binary and starts it with these files, over TLS. It
// waits until it serves.
func startCommand(t *testing.T, files map[string]string) *command {
	t.Helper()
	certificate, key := makeCertificate(t)
	files["cert.pem"], files["key.pem"] = certificate, key
	c := &command{T: t, dir: testfiles.Write(t, files), lines: make(chan string, 10_000)}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(certificate))
	c.tls = &tls.Config{RootCAs: roots, ServerName: "example.com"}

	binary := filepath.Join(t.TempDir(), "limpet")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "./cmd/limpet")
	build.Dir, build.Env = "../..", append(os.Environ(), "GOWORK=auto") // the command is a module of that workspace
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	c.cmd = exec.Command(binary, "serve", filepath.Join(c.dir, "limpet.yaml"))
	errs, err := c.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(c.lines)
		for s := bufio.NewScanner(errs); s.Scan(); {
			select {
			case c.lines <- s.Text():
			default: // nobody awaits so many
			}
		}
	}()
	t.Cleanup(func() {
		_ = c.cmd.Process.Signal(syscall.SIGTERM)
		<-read
		if err := c.cmd.Wait(); err != nil && !t.Failed() {
			t.Errorf("the command ended with %v", err)
		}
	})
	c.addr = regexp.MustCompile(`address=(\S+)`).FindStringSubmatch(c.await("msg=serving"))[1]
	return c
}

// await reads the log up to a line that contains text, and returns that.
func (c *command) await(text string) string {
	c.Helper()
	timer := time.NewTimer(testwait.Limit)
	defer timer.Stop()
	for {
		select {
		case line, ok := <-c.lines:
			if !ok {
				c.Fatalf("the command ended before it logged %q", text)
			}
			if strings.Contains(line, text) {
				return line
			}
		case <-timer.C:
			c.Fatalf("%q did not come in the log", text)
		}
	}
}

// reload gives the command another file, and waits for a line of the log.
func (c *command) reload(text, line string) {
	c.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, "limpet.yaml"), []byte(text), 0o600); err != nil {
		c.Fatal(err)
	}
	if err := c.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		c.Fatal(err)
	}
	c.await(line)
}

// makeCertificate makes a certificate of example.com, and its key, in PEM.
func makeCertificate(t *testing.T) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	made := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"example.com"}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, made, made, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
}

const stickyCommand = `listen: 127.0.0.1:0
tls: {certificate: cert.pem, key: key.pem}
persistence: cookie
persistenceProfiles: [{name: cookie, httpCookie: {name: stick, keys: [{id: a, secret: MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=}]}}]
pools:
  - {name: web, algorithm: roundRobin, SERVERS}
  - {name: grpc, protocol: h2c, algorithm: roundRobin, servers: [{address: A}, {address: B}]}
  - {name: tenants, protocol: h2c, algorithm: roundRobin, persistence: none, servers: [{address: A}, {address: B}]}
scripts: [{file: route.lua}]
`

const routeScript = `-- HTTP_REQ
tenant = avi.http.get_header("x-tenant")
if tenant then
   server = avi.vs.table_lookup(tenant)
   avi.pool.select("tenants", server)
elseif avi.http.get_header("content-type") == "application/grpc" then
   avi.pool.select("grpc")
end
-- HTTP_RESP
if tenant and not server then avi.vs.table_insert(tenant, avi.pool.server_ip()) end
`

// reloads are what the command gets between requests, and what it logs then.
func reloads(text string) [][2]string {
	return [][2]string{
		{strings.Replace(text, "roundRobin", "leastConnections", 2), `msg="configuration changed"`},
		{strings.Replace(text, "name: web, ", "nam: web, ", 1), `msg="configuration not changed"`},
		{text + "httpResponse: [{name: seen, edits: [{addHeader: {name: X-Seen, value: '1'}}]}]\n", `msg="configuration changed"`},
		{text, `msg="configuration changed"`},
	}
}

// Clients of gRPC, which calls the command over TLS, stay with their servers:
// those that return a cookie as metadata, and those that a script knows by a
// tenant in their metadata; unary calls and streams in both directions. The
// file is read anew in between, also with a fault; a stream that is open
// meanwhile goes on.
func TestStickyGRPCThroughCommand(t *testing.T) {
	_, a, addrA := startGRPC(t, "a", "127.0.1.1")
	_, b, addrB := startGRPC(t, "b", "127.0.1.2")
	text := strings.NewReplacer("address: A}", "address: "+addrA+"}", "address: B}", "address: "+addrB+"}", "SERVERS", "servers: [{address: 127.0.0.1:9}]").Replace(stickyCommand)
	c := startCommand(t, map[string]string{"limpet.yaml": text, "route.lua": routeScript})
	ctx, cancel := context.WithTimeout(t.Context(), testwait.Limit)
	defer cancel()
	conn, err := grpc.NewClient("passthrough:///"+c.addr, grpc.WithTransportCredentials(credentials.NewTLS(c.tls)), grpc.WithDisableRetry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	client := pb.NewTestServiceClient(conn)

	// exchange sends a message and wants it back.
	exchange := func(stream grpc.BidiStreamingClient[pb.StreamingOutputCallRequest, pb.StreamingOutputCallResponse], text string) {
		t.Helper()
		if err := stream.Send(&pb.StreamingOutputCallRequest{Payload: &pb.Payload{Body: []byte(text)}}); err != nil {
			t.Fatal(err)
		}
		if m, err := stream.Recv(); err != nil || string(m.GetPayload().GetBody()) != text {
			t.Fatalf("%q, %v", m.GetPayload().GetBody(), err)
		}
	}
	// call makes a unary call and a stream, with metadata, and returns the
	// server of each and the cookie.
	call := func(pairs ...string) (unary, stream, cookie string) {
		t.Helper()
		ctx := metadata.AppendToOutgoingContext(ctx, pairs...)
		var header metadata.MD
		res, err := client.UnaryCall(ctx, new(pb.SimpleRequest), grpc.Header(&header))
		if err != nil {
			t.Fatal(err)
		}
		if set := header.Get("set-cookie"); len(set) > 0 {
			cookie, _, _ = strings.Cut(set[0], ";")
			ctx = metadata.AppendToOutgoingContext(ctx, "cookie", cookie)
		}
		both, err := client.FullDuplexCall(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 5 {
			exchange(both, fmt.Sprint("message ", i))
		}
		got, err := both.Header()
		if err != nil {
			t.Fatal(err)
		}
		if err := both.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if _, err := both.Recv(); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		return res.GetServerId(), strings.Join(got.Get("x-server"), ","), cookie
	}

	const clients = 8
	type seat struct{ cookie, byCookie, byTenant string }
	seats := make([]seat, clients)
	all := map[string]bool{}
	for i := range seats {
		s := &seats[i]
		var stream string
		if s.byCookie, stream, s.cookie = call(); s.cookie == "" || stream != s.byCookie {
			t.Fatalf("client %d: server %s, then %s, cookie %q", i, s.byCookie, stream, s.cookie)
		}
		if s.byTenant, stream, _ = call("x-tenant", fmt.Sprint("tenant ", i)); stream != s.byTenant {
			t.Fatalf("tenant %d: server %s, then %s", i, s.byTenant, stream)
		}
		all["cookie "+s.byCookie], all["tenant "+s.byTenant] = true, true
	}
	if len(all) != 4 {
		t.Errorf("all clients at %v", all)
	}
	long, err := client.FullDuplexCall(metadata.AppendToOutgoingContext(ctx, "cookie", seats[0].cookie))
	if err != nil {
		t.Fatal(err)
	}
	exchange(long, "before")
	for _, reload := range reloads(text) {
		c.reload(reload[0], reload[1])
		exchange(long, "after a reload")
		for i, s := range seats {
			if unary, stream, _ := call("cookie", s.cookie); unary != s.byCookie || stream != s.byCookie {
				t.Errorf("client %d: servers %s and %s, not %s", i, unary, stream, s.byCookie)
			}
			if unary, stream, _ := call("x-tenant", fmt.Sprint("tenant ", i)); unary != s.byTenant || stream != s.byTenant {
				t.Errorf("tenant %d: servers %s and %s, not %s", i, unary, stream, s.byTenant)
			}
		}
	}
	if got, err := long.Header(); err != nil || strings.Join(got.Get("x-server"), ",") != seats[0].byCookie {
		t.Errorf("the long stream: %v, %v", got, err)
	}
	if err := long.CloseSend(); err != nil {
		t.Error(err)
	}
	if _, err := long.Recv(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	if a.calls.Load() == 0 || b.calls.Load() == 0 {
		t.Errorf("%d and %d calls", a.calls.Load(), b.calls.Load())
	}
}

// WebSockets through the command open at the server that the client's cookie
// names, also after the file was read anew; those that are open meanwhile go
// on.
func TestStickyWebSocketsThroughCommand(t *testing.T) {
	var servers []string
	for _, name := range []string{"a", "b"} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Server", name)
			if r.Header.Get("Upgrade") == "" {
				return
			}
			if err := websockettest.Accept(w, r, func(c *websockettest.Conn) { _ = c.Echo() }); err != nil {
				t.Error(err)
			}
		}))
		t.Cleanup(s.Close)
		servers = append(servers, "{address: "+s.Listener.Addr().String()+"}")
	}
	text := strings.NewReplacer("address: A}", "address: 127.0.0.1:9}", "address: B}", "address: 127.0.0.1:10}",
		"SERVERS", "servers: ["+strings.Join(servers, ", ")+"]").Replace(stickyCommand)
	c := startCommand(t, map[string]string{"limpet.yaml": text, "route.lua": routeScript})
	ctx, cancel := context.WithTimeout(t.Context(), testwait.Limit)
	defer cancel()

	type seat struct {
		client *http.Client
		server string
	}
	dial := func(s *seat) (*websockettest.Conn, string) {
		t.Helper()
		conn, res, err := websockettest.Dial(ctx, s.client, "https://"+c.addr+"/")
		if err != nil {
			t.Fatal(err)
		}
		return conn, res.Header.Get("X-Server")
	}
	echo := func(conn *websockettest.Conn, text string) {
		t.Helper()
		if err := conn.Send(websockettest.Text(text)); err != nil {
			t.Fatal(err)
		}
		if m, err := conn.Receive(); err != nil || string(m.Data) != text {
			t.Fatalf("%q, %v", m.Data, err)
		}
	}
	seats := make([]seat, 8)
	all := map[string]bool{}
	var long []*websockettest.Conn
	for i := range seats {
		s := &seats[i]
		jar, err := cookiejar.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		transport := &http.Transport{TLSClientConfig: c.tls.Clone()}
		t.Cleanup(transport.CloseIdleConnections)
		s.client = &http.Client{Jar: jar, Transport: transport}
		var conn *websockettest.Conn
		conn, s.server = dial(s)
		echo(conn, "first")
		long = append(long, conn)
		all[s.server] = true
	}
	if len(all) != 2 {
		t.Errorf("all clients at %v", all)
	}
	for _, reload := range reloads(text) {
		c.reload(reload[0], reload[1])
		for i := range seats {
			s := &seats[i]
			echo(long[i], "after a reload")
			conn, server := dial(s)
			echo(conn, "again")
			if err := conn.Finish(); err != nil {
				t.Error(err)
			}
			res, err := s.client.Get("https://" + c.addr + "/page")
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			if page := res.Header.Get("X-Server"); server != s.server || page != s.server {
				t.Errorf("client %d: WebSocket at %s, page at %s, not %s", i, server, page, s.server)
			}
		}
	}
	for _, conn := range long {
		if err := conn.Finish(); err != nil {
			t.Error(err)
		}
	}
}
