package integration

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/limpetlb/limpet/internal/testwait"
)

const upgradingNode = `
const http = require('http');
const [, , addr] = process.argv;
const serve = (req, res) => { res.writeHead(200, { 'Content-Length': 2 }); res.end('ok'); };
const server = http.createServer({ keepAliveTimeout: 60000 }, serve);
server.on('upgrade', (req, socket) => {
	socket.on('error', () => {});
	switch (req.url) {
	case '/left':
		socket.write('HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno');
		break;
	case '/closed':
		socket.end('HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno');
		break;
	case '/gone':
		socket.destroy();
		break;
	default:
		socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n');
		socket.pipe(socket);
	}
});
const [host, port] = addr.split(':');
server.listen(+port, host);
process.on('SIGTERM', () => process.exit(0));
`

// TestUpgradesOfNode asks servers of Node to switch protocols. A program that
// declines by writing to the socket that Node has handed it, and leaves it
// open, has a connection that nobody listens to: the next client's request
// waited there for a minute.
func TestUpgradesOfNode(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "server.js")
	writeFile(t, file, upgradingNode)
	deaf := filepath.Join(dir, "deaf.js")
	writeFile(t, deaf, strings.Replace(upgradingNode, "server.on('upgrade'", "(() => {})('upgrade'", 1))
	for _, server := range []struct {
		name, file string
		left       int // the status of an upgrade of /left
		upgraded   bool
	}{
		{"with a listener", file, 403, true},
		{"without a listener", deaf, 200, false}, // to Node that is a request like others
	} {
		t.Run(server.name, func(t *testing.T) {
			addr := freeAddr(t, "127.0.0.1")
			program(t, io.Discard, "node", server.file, addr)
			listening(t, "tcp", addr)
			w := startWard(t, addr)
			ask := func(path string, upgrade bool) (net.Conn, *bufio.Reader, *http.Response) {
				t.Helper()
				c, err := w.dial(1)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { c.Close() })
				_ = c.SetDeadline(time.Now().Add(testwait.Limit))
				header := ""
				if upgrade {
					header = "Connection: Upgrade\r\nUpgrade: x\r\n"
				}
				if _, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: a\r\n"+header+"\r\n"); err != nil {
					t.Fatal(err)
				}
				r := bufio.NewReader(c)
				resp, err := http.ReadResponse(r, nil)
				if err != nil {
					t.Fatalf("%s, upgrade %t: %v", path, upgrade, err)
				}
				return c, r, resp
			}
			want := func(path string, upgrade bool, status int) {
				t.Helper()
				_, _, resp := ask(path, upgrade)
				_, err := io.Copy(io.Discard, resp.Body)
				if resp.StatusCode != status || err != nil {
					t.Errorf("%s, upgrade %t: %s, %v, want status %d", path, upgrade, resp.Status, err, status)
				}
			}
			gone := 200
			if server.upgraded {
				gone = 502
			}
			for range 3 {
				want("/", false, 200)
				want("/left", true, server.left)
				want("/", false, 200)
				want("/closed", true, server.left)
				want("/", false, 200)
				want("/gone", true, gone)
				want("/", false, 200)
			}
			c, r, resp := ask("/echo", true)
			if server.upgraded {
				if _, err := io.WriteString(c, "hello"); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
					t.Fatalf("%s, %v", resp.Status, err)
				}
				b := make([]byte, 5)
				if _, err := io.ReadFull(r, b); string(b) != "hello" {
					t.Errorf("%q, %v through an upgraded connection", b, err)
				}
				c.Close()
			}
			want("/", false, 200)
			w.stop()
		})
	}
}
