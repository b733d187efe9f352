package acceptance_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/limpetlb/limpet/internal/testwait"
)

// startNginx starts an nginx with these directives in its server block, and
// returns its address and how to learn what it was asked. Its upstream "inner"
// is a server that answers all. It is skipped without the program, but fails
// where all programs must be there.
func startNginx(t *testing.T, server string) (addr string, log func() []string) {
	t.Helper()
	program, err := exec.LookPath("nginx")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("nginx is not installed")
		}
		t.Skip("nginx is not installed")
	}
	dir := t.TempDir()
	addr = deadAddr(t, "127.0.0.1:0")
	access := filepath.Join(dir, "access.log")
	config := fmt.Sprintf(`daemon off;
master_process off;
pid %[1]s/nginx.pid;
error_log %[1]s/error.log;
events {}
http {
	log_format seen escape=none "$request_method $request_uri $http_host";
	access_log %[2]s seen;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	upstream inner { server unix:%[1]s/inner.sock; }
	server {
		listen unix:%[1]s/inner.sock;
		access_log off;
		return 200 "ok";
	}
	server {
		listen %[3]s;
		%[4]s
	}
}
`, dir, access, addr, server)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var output bytes.Buffer
	cmd := exec.Command(program, "-p", dir, "-c", file, "-e", filepath.Join(dir, "error.log"))
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	stopped := false
	stop := func() {
		if stopped {
			return
		}
		stopped = true
		_ = cmd.Process.Signal(syscall.SIGTERM)
		timer := time.AfterFunc(testwait.Limit, func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
		<-exited
	}
	t.Cleanup(stop)

	deadline := time.Now().Add(testwait.Limit)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
			break
		}
		select {
		case err := <-exited:
			stopped = true
			t.Fatalf("nginx: %v: %s", err, output.String())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("nginx does not listen: %v", err)
		}
	}
	return addr, func() []string {
		t.Helper()
		stop() // writes all that is to be logged
		text, err := os.ReadFile(access)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	}
}
