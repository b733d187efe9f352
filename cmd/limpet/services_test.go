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
	for _, args := range [][]string{{"explain", "DIR/limpet.yaml", "http://a/"}, {"explain", "--service", "shep", "DIR/limpet.yaml", "http://a/"}} {
		status, _, errs := invoke(t, dir, args...)
		if want := "limpet: DIR/limpet.yaml: --service must be one of shop, admin\n"; status != misuse || errs != want {
			t.Errorf("status %d, %s", status, errs)
		}
	}
}
