package config

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet/internal/testwait"
)

// proxied is a header of version 2 of the PROXY protocol with a client, which
// spoke TLS to the proxy.
func proxied(client byte) string {
	return "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x14\xcb\x00\x71" + string([]byte{client}) +
		"\xc6\x33\x64\x01\x12\x67\x01\xbb\x20\x00\x05\x01\x00\x00\x00\x00"
}

// asker asks a listener, as a client behind a proxy.
type asker struct {
	*testing.T
	*site
}

// dial opens a connection of a client, which is its last byte.
func (a asker) dial(client byte) net.Conn {
	a.Helper()
	var d net.Dialer
	c, err := d.DialContext(a.Context(), "tcp", a.addrs("l")[0].String())
	if err != nil {
		a.Fatal(err)
	}
	a.Cleanup(func() { _ = c.Close() })
	// A connection that was reset shows that when it is read.
	_, _ = io.WriteString(c, proxied(client))
	return c
}

// get asks on a connection, and returns "closed" if that ends without an
// answer.
func (a asker) get(c net.Conn, path string) string {
	a.Helper()
	_, _ = io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: shop.example\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return "closed"
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		a.Fatal(err)
	}
	return strings.TrimSpace(fmt.Sprintf("%d %s%s", res.StatusCode, body, res.Header.Get("Location")))
}

// logged waits for the line about a path and returns what it says about the
// connection.
func (a asker) logged(path string) (facts string) {
	a.Helper()
	testwait.Until(a, "line in the log", func() bool {
		lines := a.log.take(" path=" + path + " ")
		for word := range strings.FieldsSeq(strings.Join(lines, "")) {
			key, value, _ := strings.Cut(word, "=")
			switch key {
			case "proxy":
				facts += " proxy=" + value[:strings.LastIndexByte(value, ':')] // the port is any
			case "client", "network_rule":
				facts += " " + word
			}
		}
		return len(lines) > 0
	})
	return facts
}

// call makes a call of gRPC whose client is silent for longer than bodyTimeout,
// and returns what comes back. The time is that of two other requests, which
// may not be silent so long.
func (a asker) call() string {
	a.Helper()
	t := &http.Transport{
		Protocols:   new(http.Protocols),
		DialContext: func(context.Context, string, string) (net.Conn, error) { return a.dial(20), nil },
	}
	t.Protocols.SetUnencryptedHTTP2(true)
	defer t.CloseIdleConnections()
	send := func(path, contentType string) (*http.Response, *io.PipeWriter, error) {
		body, w := io.Pipe()
		a.Cleanup(func() { _ = w.Close() })
		r, err := http.NewRequestWithContext(a.Context(), http.MethodPost, "http://shop.example"+path, body)
		if err != nil {
			a.Fatal(err)
		}
		r.Header.Set("Content-Type", contentType)
		res, err := t.RoundTrip(r)
		return res, w, err
	}
	res, w, err := send("/echo", "application/grpc")
	if err != nil {
		a.Fatal(err)
	}
	defer res.Body.Close()
	answer := ""
	say := func(word string) {
		_, _ = io.WriteString(w, word)
		p := make([]byte, len(word))
		n, err := io.ReadFull(res.Body, p)
		answer += fmt.Sprintf("%s %v ", p[:n], err)
	}
	say("first")
	for range 2 {
		if res, _, err := send("/silent", "text/plain"); err == nil {
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
		}
	}
	say("second")
	return answer
}

// What is known of a client's connection is the same for a service, whether
// its own rules have judged the connection, or those of its listener.
func TestConnectionOfServices(t *testing.T) {
	t.Parallel()
	origin := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/echo":
			c := http.NewResponseController(w)
			_ = c.EnableFullDuplex()
			_ = c.Flush()
			for p := make([]byte, 100); ; {
				n, err := r.Body.Read(p)
				_, _ = w.Write(p[:n])
				_ = c.Flush()
				if err != nil {
					return
				}
			}
		case "/silent":
			_, _ = io.Copy(io.Discard, r.Body)
		default:
			fmt.Fprintf(w, "%s %s", r.Header.Get("X-Forwarded-For"), r.Header.Get("X-Forwarded-Proto"))
		}
	}))
	origin.Config.Protocols = new(http.Protocols)
	origin.Config.Protocols.SetUnencryptedHTTP2(true)
	origin.Start()
	t.Cleanup(origin.Close)

	const seen, own = `{name: seen, action: allow, log: true}`, `{name: own, match: {clientIP: {addrs: [203.0.113.77]}}, action: deny}`
	rules := func(network string) []string {
		return []string{
			"proxyProtocol: {from: [127.0.0.1/32]}", "connections: {maxPerClient: 2, bodyTimeout: 1s}",
			"networkSecurity: [{name: no, match: {clientIP: {addrs: [203.0.113.66]}}, action: deny}, " + network + "]",
		}
	}
	service := []string{
		"logging: {otherRate: -1}", "scripts: [{file: conns.lua}]",
		"httpSecurity: [{name: tls, match: {path: {op: begins with, values: [/login]}}, action: {redirectToHTTPS: {port: 443}}}]",
	}
	listener := []string{"name: l", `address: "127.0.0.1:0"`, "h2c: true"}
	block := func(fields []string) string { return strings.Join(fields, "\n") + "\n" }
	flow := func(fields ...string) string { return "{" + strings.Join(fields, ", ") + "}" }
	judging, separate := append(listener[:3:3], rules(seen)...), append(service[:3:3], "networkSecurity: ["+own+"]")
	for name, text := range map[string]string{
		"rules at the top":      "listeners: [" + flow(listener...) + "]\n" + block(rules(own+", "+seen)) + block(service),
		"rules of the listener": "listeners: [" + flow(judging...) + "]\n" + block(separate),
		"two services": "listeners: [" + flow(judging...) + "]\nservices:\n" +
			"  - " + flow(append(separate, "name: shop", "hosts: [shop.example]", "pools: [web]")...) + "\n  - {name: other, pools: [web]}\n",
	} {
		text += fmt.Sprintf("pools: [{name: web, protocol: h2c, servers: [{address: %q}]}]\n", origin.Listener.Addr())
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := asker{t, serve(t, map[string]string{
				"limpet.yaml": text,
				"conns.lua":   "-- HTTP_REQ\n" + `if avi.http.get_path() == "/conns" then avi.http.response(200, {}, tostring(avi.vs.get_open_conns())) end`,
			}, Options{})}
			got := map[string]string{}
			first, second := a.dial(9), a.dial(9)
			got["forwarded"] = a.get(first, "/forwarded")
			got["open connections"] = a.get(second, "/conns")
			got["third connection of a client"] = a.get(a.dial(9), "/third")
			got["redirect to HTTPS"] = a.get(first, "/login")
			got["log"] = a.logged("/forwarded")
			got["denied by the rules of connections"] = a.get(a.dial(66), "/denied")
			got["denied by a rule of the service"] = a.get(a.dial(77), "/denied")
			got["call"] = a.call()
			want := map[string]string{
				"forwarded":                          "200 203.0.113.9 https",
				"open connections":                   "200 2",
				"third connection of a client":       "closed",
				"redirect to HTTPS":                  "200 203.0.113.9 https",
				"log":                                " client=203.0.113.9:4711 proxy=127.0.0.1 network_rule=seen",
				"denied by the rules of connections": "closed",
				"denied by a rule of the service":    "closed",
				"call":                               "first <nil> second <nil> ",
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}
