package config

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseAddress(t *testing.T) {
	for text, want := range map[string]address{
		":8080":                {"tcp", ":8080"},
		"127.0.0.1:0":          {"tcp", "127.0.0.1:0"},
		"WWW.example.com:http": {"tcp", "www.example.com:80"},
		":08080":               {"tcp", ":8080"},
		"127.0.0.1:https":      {"tcp", "127.0.0.1:443"},
		"[::ffff:0.0.0.0]:80":  {"tcp4", "0.0.0.0:80"},
		"[0:0::1]:00":          {"tcp", "[::1]:0"},
		"unix:/run/./a//b/":    {"unix", "/run/a/b"},
		"0.0.0.0:80":           {"tcp4", "0.0.0.0:80"},
		"[::]:80":              {"tcp6", "[::]:80"},
		"[fe80::1%lo]:80":      {"tcp", "[fe80::1%lo]:80"},
		"unix:/run/a b.sock":   {"unix", "/run/a b.sock"},
		"unix:@limpet":         {"unix", "@limpet"},
		"fd:https":             {"fd", "https"},
	} {
		if got, err := parseAddress(text); err != nil || got != want {
			t.Errorf("%q: %+v, %v, not %+v", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"":                                  "missing port in address",
		"foo":                               "address foo: missing port in address",
		"1.2.3:80":                          `"1.2.3" is not an address`,
		"[1::2::3]:80":                      `"1::2::3" is not an address`,
		":nope":                             "unknown port",
		"unix:":                             `"unix:": want unix:/path or unix:@name`,
		"unix:run/x":                        `"unix:run/x": want unix:/path or unix:@name`,
		"unix:@":                            `"unix:@": want unix:/path or unix:@name`,
		"unix:/" + strings.Repeat("x", 103): "the name of a Unix socket has at most 103 bytes, not 104",
		"unix:/a/../b":                      "want the path of a file, without \"..\"",
		"unix://.":                          "want the path of a file",
		"unix:/a\x00b":                      "the name of a Unix socket has no zero bytes",
		"fd:":                               `"fd:": want fd: and the name of a socket that the process inherits`,
		"fd:a:b":                            `"fd:a:b": want fd: and the name`,
		"fd:a b":                            `"fd:a b": want fd: and the name`,
	} {
		if got, err := parseAddress(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %+v, %v, not %s", text, got, err, want)
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	for _, seed := range []string{":80", "[::]:80", "unix:/x", "unix:@", "fd:a", "localhost:http"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := parseAddress(text)
		if err != nil {
			return
		}
		again := a.name
		if !strings.HasPrefix(a.network, "tcp") {
			again = a.network + ":" + a.name
		}
		if b, err := parseAddress(again); err != nil || a != b || a.isFixed() && !a.overlaps(b) {
			t.Errorf("%q: %+v, and again %+v, %v", text, a, b, err)
		}
	})
}

// Whether two addresses overlap is what the system says. Check accepted them,
// and serve failed.
func TestAddressesOverlap(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink(dir, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	free, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	port := strconv.Itoa(free.Addr().(*net.TCPAddr).Port)
	free.Close()
	texts := []string{
		":" + port, ":0" + port, "0.0.0.0:" + port, "127.0.0.1:" + port, "127.0.0.1:0", "127.0.0.2:" + port, "[::]:" + port, "[::1]:" + port,
		"[::ffff:127.0.0.1]:" + port, "[::ffff:0.0.0.0]:" + port, "unix:" + dir + "/a", "unix:" + dir + "/./a", "unix:" + dir + "/link/a",
		"unix:" + dir + "/b", "unix:" + dir + "/b:0",
	}
	for _, first := range texts {
		for _, second := range texts {
			file := fmt.Sprintf("listeners: [{name: a, address: %q}, {name: b, address: %q}]\nhttpSecurity: [{name: a, action: close}]\n", first, second)
			_, err := Parse(t.Context(), "text", []byte(file), nil)
			a, _ := parseAddress(first)
			b, _ := parseAddress(second)
			ln, opens := listenAt(a, 0)
			if opens != nil {
				t.Logf("%s: %v", first, opens) // a system without IPv6, or other than Linux
				continue
			}
			other, opens := listenAt(b, 0)
			if opens == nil {
				other.Close()
			}
			ln.Close()
			if (err == nil) != (opens == nil) && (runtime.GOOS == "linux" || err == nil) {
				t.Errorf("%s and %s: %v, but %v", first, second, err, opens)
			}
			if err != nil && !strings.Contains(err.Error(), "which is listeners[0].address (text:1:") {
				t.Error(err)
			}
		}
	}
}

// What is wrong with addresses and with settings of servers is reported where
// it stands.
func TestListenerFaults(t *testing.T) {
	t.Setenv("LIMPET_LISTEN", ":81")
	const service = "httpSecurity: [{name: a, action: close}]\n"
	for text, want := range map[string][]string{
		"listen: [':80', {env: LIMPET_LISTEN}, 'unix:@a']":                                                               nil,
		"listeners: [{name: a, address: [':80', 'unix:@a']}, {name: b, address: [':81', '127.0.0.1:0', '127.0.0.1:0']}]": nil,
		"listen: []":           {"text:1:9: listen: an empty list"},
		"listen: {port: 80}":   {"text:1:9: listen: want a text, not a mapping"},
		"listen: [':80', foo]": {"text:1:17: listen[1]: address foo: missing port in address"},
		"listeners: [{name: a}]": {
			"text:1:13: listeners[0].address: want an address, such as :8080",
		},
		"listeners: [{name: a, address: [':80', 'fd:']}, {name: b, address: ':80'}]": {
			`text:1:40: listeners[0].address[1]: "fd:": want fd: and the name of a socket that the process inherits`,
			`text:1:68: listeners[1].address: cannot be opened beside ":80", which is listeners[0].address[0] (text:1:33)`,
		},
		"listeners: [{name: a, address: 'unix:@a', h2c: true, maxHeaderBytes: 1000, maxStreams: 10001, timeouts: {header: 1ms, idle: 25h}, tls: {certificate: x, key: y}}]": {
			"text:1:48: listeners[0].h2c: true: for a listener without tls, which has HTTP/2 anyway",
			"text:1:70: listeners[0].maxHeaderBytes: 1000: less than 1KiB",
			"text:1:88: listeners[0].maxStreams: 10001: more than 10000",
			"text:1:114: listeners[0].timeouts.header: 1ms: less than 10ms",
			"text:1:125: listeners[0].timeouts.idle: 25h0m0s: more than 24h0m0s",
			"text:1:136: listeners[0].tls: this configuration cannot name files",
		},
		"process: {startWait: 61s, maxConnections: -1, drain: {idle: 25h}}": {
			"text:1:22: process.startWait: 1m1s: more than 1m0s",
			"text:1:43: process.maxConnections: -1: negative",
			"text:1:61: process.drain.idle: 25h0m0s: more than 24h0m0s",
		},
		"process: {startWait: -1s}":                                {"text:1:22: process.startWait: -1s: negative"},
		"process: {startWait: 0s, watch: true, maxConnections: 0}": nil,
		"connections: {bodyTimeout: 1ms}":                          {"text:1:28: connections.bodyTimeout: 1ms: less than 1s"},
		"connections: {drainIdle: 1s}":                             {`text:1:15: connections: unknown field "drainIdle"`},
	} {
		_, err := Parse(t.Context(), "text", []byte(text+"\n"+service), nil)
		var got []string
		if err != nil {
			got = strings.Split(err.Error(), "\n")
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}
