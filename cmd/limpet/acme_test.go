package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"

	"github.com/limpetlb/limpet/cmd/limpet/internal/testacme"
	"github.com/limpetlb/limpet/internal/testfiles"
)

// The binary gets a certificate in the directory of its unit. A process that
// takes its place, and one that starts while the authority is down, use it.
func TestServeACME(t *testing.T) {
	a := testacme.New(t, testacme.Options{})
	dir := testfiles.Write(t, map[string]string{"ca.pem": a.PEM, "limpet.yaml": fmt.Sprintf(`
acme: [{name: test, directory: %q, ca: ca.pem, agree: true}]
listeners: [{name: https, address: "127.0.0.1:0", tls: {acme: test}}]
services:
  - {name: shop, hosts: [shop.example.com], httpSecurity: [{name: all, action: {respond: {status: 418}}}]}
`, a.URL)})
	config, env := filepath.Join(dir, "limpet.yaml"), []string{"STATE_DIRECTORY=" + filepath.Join(dir, "state") + ":/other"}
	binary, err := build()
	if err != nil {
		t.Fatal(err)
	}
	p := startAs(t, env, binary, "serve", config)
	at := func() string { return regexp.MustCompile(`address=(\S+)`).FindStringSubmatch(p.serving)[1] }
	addr, err := net.ResolveTCPAddr("tcp", at())
	if err != nil {
		t.Fatal(err)
	}
	a.Start(0, addr.Port)
	p.await(`msg="certificate issued" name=shop.example.com authority=test`)
	shake := func() (serial string) {
		t.Helper()
		conn, err := (&tls.Dialer{Config: &tls.Config{ServerName: "shop.example.com", RootCAs: a.Roots()}}).DialContext(t.Context(), "tcp", at())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	first := shake()
	if made, err := filepath.Glob(filepath.Join(dir, "state", "acme", "certificates", "*", "shop.example.com", "*")); err != nil || len(made) != 3 {
		t.Errorf("in the storage: %q, %v", made, err)
	}
	p.end()

	a.SetDown(true)
	p = startAs(t, env, binary, "serve", config)
	if got := shake(); got != first || a.Orders() != 1 {
		t.Errorf("after a restart: certificate %s, not %s; %d orders", got, first, a.Orders())
	}
	p.signal(syscall.SIGHUP)
	p.await("configuration unchanged")
	p.end()
}
