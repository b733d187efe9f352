package main

import (
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/limpetlb/limpet/internal/testfiles"
)

const services = `listeners: [{name: public, address: "127.0.0.1:0"}, {name: internal, address: "127.0.0.1:0"}]
services:
  - {name: shop, listeners: [public], httpSecurity: [{name: a, action: {respond: {status: 200, body: shop}}}]}
  - {name: admin, listeners: [internal], httpSecurity: [{name: a, action: {respond: {status: 200, body: admin}}}]}
`

// TestServeServices serves two services at two listeners, from one process.
func TestServeServices(t *testing.T) {
	dir := testfiles.Write(t, map[string]string{"limpet.yaml": services})
	p := start(t, filepath.Join(dir, "limpet.yaml"))
	second := p.await("msg=serving")
	for line, want := range map[string]string{p.serving: "shop", second: "admin"} {
		m := regexp.MustCompile(`address=(\S+) listener=(\S+)`).FindStringSubmatch(line)
		if m == nil {
			t.Fatal(line)
		}
		if got := get(t, "http://"+m[1]); got != "200 "+want || (m[2] == "public") != (want == "shop") {
			t.Errorf("%s: %s", line, got)
		}
	}
	p.signal(syscall.SIGHUP)
	p.await("configuration unchanged")
	p.end()
}

// An address that is taken ends the command before it serves anywhere.
func TestServeTakenAddress(t *testing.T) {
	dir := testfiles.Write(t, map[string]string{"limpet.yaml": strings.Replace(services, `internal, address: "127.0.0.1:0"`, `internal, address: "192.0.2.1:1"`, 1)})
	if status, _, errs := invoke(t, dir, "serve", "DIR/limpet.yaml"); status != failed || !strings.Contains(errs, "192.0.2.1:1") || strings.Contains(errs, "serving") {
		t.Errorf("status %d, %s", status, errs)
	}
}

func TestExplainServices(t *testing.T) {
	dir := testfiles.Write(t, map[string]string{"limpet.yaml": services})
	for service, want := range map[string]string{"shop": "\nshop\n", "admin": "\nadmin\n"} {
		if status, out, errs := invoke(t, dir, "explain", "--service", service, "DIR/limpet.yaml", "http://a/"); status != ok || !strings.HasSuffix(out, want) {
			t.Errorf("status %d, %s%s", status, out, errs)
		}
	}
	// The request arrives at a listener of the service.
	ports := testfiles.Write(t, map[string]string{"limpet.yaml": strings.NewReplacer(`internal, address: "127.0.0.1:0"`, `internal, address: ":18086"`, `body: admin}}}`, `body: "here\n"}}, match: {vsPort: {ports: [18086]}}}`).Replace(services)})
	if status, out, errs := invoke(t, ports, "explain", "--service", "admin", "DIR/limpet.yaml", "http://a/"); status != ok || !strings.HasSuffix(out, "\nhere\n") {
		t.Errorf("status %d, %s%s", status, out, errs)
	}
	for want, args := range map[string][]string{
		"--listener must be one of public, internal": {"explain", "DIR/limpet.yaml", "http://a/"},
		"--service must be one of shop, admin":       {"explain", "--service", "shep", "DIR/limpet.yaml", "http://a/"},
	} {
		status, _, errs := invoke(t, dir, args...)
		if want := "limpet: DIR/limpet.yaml: " + want + "\n"; status != misuse || errs != want {
			t.Errorf("status %d, %s", status, errs)
		}
	}
}

// Rules of listeners and hosts of services were left out of explanations.
func TestExplainListeners(t *testing.T) {
	answer := func(body string) string {
		return `httpSecurity: [{name: a, action: {respond: {status: 200, contentType: text/plain, body: ` + body + `}}}]}`
	}
	dir := testfiles.Write(t, map[string]string{"limpet.yaml": `listeners:
  - {name: public, address: ":8080", networkSecurity: [{name: no spoofing, match: {clientIP: {prefixes: [198.51.100.0/24]}}, action: deny}]}
  - {name: inside, address: ["127.0.0.1:9090", "unix:/run/a.sock"]}
services:
  - {name: shop, listeners: [public], hosts: [shop.example.com], ` + answer("shop") + `
  - {name: api, hosts: ["*.example.com"], ` + answer("api") + `
  - {name: rest, listeners: [inside], ` + answer("rest") + `
`})
	for _, c := range []struct{ args, want string }{
		{"http://shop.example.com:8080/", "listener public\nnetwork security:\n    rules[0] \"no spoofing\"\n"},
		{"http://shop.example.com:8080/", "\nservice shop\nclient 192.0.2.1:1234\n"},
		{"http://shop.example.com:8080/", "\n\nshop\n"},
		{"--client 198.51.100.7 http://shop.example.com:8080/", "\n\nnetwork rule   no spoofing\nclosed         the client's connection\n"},
		{"http://a.example.com:8080/", "\nservice api\n"},
		{"http://example.org:8080/", "service: none of the listener has this host for this client\n"},
		{"http://example.org:8080/", "\n421 Misdirected Request\n"},
		{"http://shop.example.com:9090/", "listener inside\nservice api\n"},
		{"http://example.org:9090/", "listener inside\nservice rest\n"},
		{"--listener inside http://example.org/", "listener inside\nservice rest\n"},
		{"--listener public --header Host:b.example.com http://127.0.0.1/", "listener public\n"},
		{"--service rest http://shop.example.com:8080/", "client 192.0.2.1:1234\n"},
	} {
		args := append(append([]string{"explain"}, strings.Fields(c.args)...), "DIR/limpet.yaml")
		n := len(args)
		args[n-2], args[n-1] = args[n-1], args[n-2]
		if status, out, errs := invoke(t, dir, args...); status != ok || !strings.Contains(out, c.want) {
			t.Errorf("%s: status %d, no %q in\n%s%s", c.args, status, c.want, out, errs)
		}
	}
	for _, args := range []string{"http://a/", "http://a:1/", "--listener x http://a:8080/"} {
		all := append(append([]string{"explain"}, strings.Fields(args)...), "DIR/limpet.yaml")
		n := len(all)
		all[n-2], all[n-1] = all[n-1], all[n-2]
		if status, _, errs := invoke(t, dir, all...); status != misuse || !strings.HasSuffix(errs, ": --listener must be one of public, inside\n") {
			t.Errorf("%s: status %d, %s", args, status, errs)
		}
	}
}
