package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCheck(t *testing.T) {
	dir := in(t, map[string]string{
		"good.lua":     "-- HTTP_REQ\navi.http.add_header('X', 'y')\n",
		"http_req.lua": "avi.vs.log(avi.http.method())\n",
		"plain.lua":    "avi.vs.log('no heading')\n",
		"Stop Bots.lua": `-- HTTP_REQ
if avi.http.method() == "TRACE" then
  avi.http.response(405)
`,
		"doubtful.lua":      "-- HTTP_REQ\navi.http.get_method()\n-- HTTP_RESP\navi.pool.select('p')\n",
		"filter.lua":        "-- HTTP_REQ_DATA\navi.http.response(403)\n",
		"filter.yaml":       "name: web\nscripts:\n  - {file: filter.lua}\n",
		"buffered.yaml":     "requestBody: {bytes: 128KiB, head: true}\nscripts:\n  - {file: filter.lua}\n",
		"good.yaml":         "scripts:\n  - {file: near.lua}\n",
		"stick.lua":         "-- HTTP_REQ\navi.pool.select(\"web\", avi.vs.table_lookup(\"k\", 0))\n-- HTTP_RESP\navi.vs.table_insert(\"k\", avi.pool.server_ip(), 300)\n",
		"shared.yaml":       "pools: [{name: web, servers: [{address: \"127.0.0.1:8081\"}, {address: \"127.0.0.1:8082\"}]}]\nscripts: [{file: stick.lua}]\npersistence: {httpCookie: {}}\n",
		"near.lua":          "-- HTTP_REQ\nx = 1\n-- HTTP_RESPONS\ny = 1\n",
		"tcp.lua":           "-- HTTP_REQ\nx = 1\n-- TCP_CLIENT_ACCEPT\n",
		"dns_req.lua":       "avi.dns.read()\n",
		"client_closed.lua": "-- HTTP_REQ\nx = 1\n",
		"large.lua":         "-- HTTP_REQ\n" + strings.Repeat("-- comment\n", maxScriptFile/10),
	})
	for _, c := range []struct {
		name   string
		args   []string
		status int
		out    string
	}{
		{"good", []string{"DIR/good.lua", "DIR/http_req.lua"}, ok, ""},
		{"no heading", []string{"DIR/plain.lua"}, failed,
			"DIR/plain.lua: Failed to compile the datascript \"plain.ds\": luac: plain.ds:1: code before the first event heading (a comment line such as '-- HTTP_REQ') near 'avi.vs.log'\n"},
		{"event given", []string{"-event", "HTTP Response", "DIR/plain.lua"}, ok, ""},
		{"fault", []string{"DIR/Stop Bots.lua", "DIR/good.lua"}, failed,
			"DIR/Stop Bots.lua: Failed to compile the datascript \"Stop_Bots_on_http_req.ds\": luac: Stop_Bots_on_http_req.ds:4: 'end' expected (to close 'if' at line 2) near '<eof>'\n"},
		{"warnings", []string{"DIR/doubtful.lua"}, ok,
			"DIR/doubtful.lua:2: avi.http.get_method: unknown, hence nil\nDIR/doubtful.lua:4: avi.pool.select: not allowed in event HTTP_RESP\n"},
		{"warnings that count", []string{"-strict", "DIR/doubtful.lua"}, failed,
			"DIR/doubtful.lua:2: avi.http.get_method: unknown, hence nil\nDIR/doubtful.lua:4: avi.pool.select: not allowed in event HTTP_RESP\n"},
		{"nearly a heading", []string{"DIR/near.lua"}, ok, "DIR/near.lua:3: \"-- HTTP_RESPONS\" is not an event; did you mean HTTP_RESP?\n"},
		{"event of another protocol", []string{"DIR/tcp.lua", "DIR/dns_req.lua", "DIR/client_closed.lua"}, failed,
			"DIR/tcp.lua: Failed to compile the datascript \"tcp.ds\": luac: tcp.ds:3: event TCP_CLIENT_ACCEPT is known, but not supported: limpet runs HTTP events\n" +
				"DIR/dns_req.lua: event DNS_REQ is known, but not supported: limpet runs HTTP events\n"},
		{"configuration", []string{"DIR/good.yaml"}, ok, "DIR/near.lua:3: \"-- HTTP_RESPONS\" is not an event; did you mean HTTP_RESP?\n"},
		{"warnings of a configuration", []string{"DIR/shared.yaml"}, ok,
			"DIR/shared.yaml: persistence cookies have no configured keys: clients lose their servers at the next start\n" +
				"DIR/shared.yaml: script stores an address that servers share pool=web script=stick address=127.0.0.1 servers=2\n"},
		{"strict about them", []string{"-strict", "DIR/shared.yaml"}, failed,
			"DIR/shared.yaml: persistence cookies have no configured keys: clients lose their servers at the next start\n" +
				"DIR/shared.yaml: script stores an address that servers share pool=web script=stick address=127.0.0.1 servers=2\n"},
		{"data event that never runs", []string{"DIR/filter.yaml"}, failed,
			"DIR/filter.yaml:3:5: scripts[0]: script \"filter\": HTTP_REQ_DATA never runs: set requestBody.bytes, or call avi.http.set_request_body_buffer_size in HTTP_REQ\n"},
		{"data event that runs", []string{"DIR/buffered.yaml"}, ok, ""},
		{"no file", []string{"DIR/none.lua"}, failed, "DIR/none.lua: open DIR/none.lua: no such file or directory\n"},
		{"large", []string{"DIR/large.lua"}, failed, "DIR/large.lua: DIR/large.lua: longer than 1048576 bytes\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, out, errs := invoke(t, dir, append([]string{"check"}, c.args...)...)
			if diff := cmp.Diff(c.out, out); status != c.status || diff != "" || errs != "" {
				t.Errorf("status %d, errors %q, output (-want +got):\n%s", status, errs, diff)
			}
		})
	}
}
