//go:build unix

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/limpetlb/limpet/internal/testfiles"
	"github.com/limpetlb/limpet/internal/testwait"
)

// awaitFile waits until a file has a text.
func awaitFile(t *testing.T, path, text string) {
	t.Helper()
	testwait.Until(t, "no "+text+" in "+path, func() bool {
		got, err := os.ReadFile(path)
		return err == nil && strings.Contains(string(got), text)
	})
}

// Files of logs are opened anew on SIGUSR1, and on SIGHUP, whether or not the
// configuration is accepted.
func TestServeReopensLogs(t *testing.T) {
	dir := testfiles.Write(t, map[string]string{"limpet.yaml": teapot + "accessLog: {output: access.log, format: combined}\n"})
	config, log := filepath.Join(dir, "limpet.yaml"), filepath.Join(dir, "access.log")
	p := start(t, config)
	get(t, p.url+"/first")
	awaitFile(t, log, `"GET /first HTTP/1.1" 418 `)
	rotate := func(number string, s os.Signal, path string) {
		t.Helper()
		if err := os.Rename(log, log+number); err != nil {
			t.Fatal(err)
		}
		p.signal(s)
		awaitFile(t, log, "") // it is there
		get(t, p.url+path)
		awaitFile(t, log, path)
		if text, err := os.ReadFile(log + number); err != nil || strings.Contains(string(text), path) {
			t.Errorf("%s, %v", text, err)
		}
	}
	rotate(".1", syscall.SIGUSR1, "/second")
	rotate(".2", syscall.SIGHUP, "/third")
	if err := os.WriteFile(config, []byte("nope: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	rotate(".3", syscall.SIGHUP, "/fourth")
	p.await("configuration not changed")
	if info, err := os.Stat(log); err != nil || info.Mode().Perm()&^0o640 != 0 {
		t.Errorf("%v, %v", info, err)
	}

	// A log that cannot be opened goes on as it was.
	if err := os.Rename(log, log+".4"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(log, 0o700); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGUSR1)
	p.await(`level=ERROR msg="log not reopened" error="open ` + log + `: is a directory"`)
	get(t, p.url+"/fifth")
	awaitFile(t, log+".4", "/fifth")
	p.end()
}

// All lines of the process are in the format that the file wants, from the
// first to the last.
func TestServeLogsJSON(t *testing.T) {
	dir := testfiles.Write(t, map[string]string{"limpet.yaml": teapot + "logs: {format: json}\nprocess: {drain: {delay: 1ms}}\n"})
	p := launch(t, filepath.Join(dir, "limpet.yaml"))
	serving := p.await(`"msg":"serving"`)
	p.url = "http://" + regexp.MustCompile(`"address":"([^"]+)"`).FindStringSubmatch(serving)[1]
	get(t, p.url)
	p.signal(syscall.SIGHUP)
	changed := p.await(`"msg":"configuration unchanged"`)
	p.signal(syscall.SIGTERM)
	draining := p.await(`"msg":"draining"`)
	stopped := p.await(`"msg":"stopped"`)
	for line := range p.lines {
		t.Errorf("after the end: %s", line)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("the process ended with %v", err)
	}
	if !strings.Contains(draining, `"delay_us":1000,"timeout_us":30000000`) {
		t.Error(draining)
	}
	requests := 0
	for _, line := range append(p.read, serving, changed, draining, stopped) {
		var l struct{ Time, Level, Msg string }
		if err := json.Unmarshal([]byte(line), &l); err != nil || l.Level == "" || !strings.HasSuffix(l.Time, "Z") || len(l.Time) != len("2026-11-30T17:00:01.123456Z") {
			t.Errorf("%s: %v", line, err)
		}
		if l.Msg == "request" {
			requests++
		}
	}
	if requests != 1 {
		t.Errorf("%d requests in %q", requests, p.read)
	}
}

// A log that cannot be opened keeps the command from serving.
func TestServeLogFails(t *testing.T) {
	dir := testfiles.Write(t, map[string]string{"limpet.yaml": teapot + "logs: {output: none/process.log}\n"})
	status, _, errs := invoke(t, dir, "serve", "DIR/limpet.yaml")
	want := "limpet: DIR/limpet.yaml:3:16: logs.output: open DIR/none/process.log: no such file or directory\n"
	if status != failed || errs != want {
		t.Errorf("status %d, %s, not %s", status, errs, want)
	}
	if status, out, errs := invoke(t, dir, "check", "DIR/limpet.yaml"); status != failed || out != strings.TrimPrefix(want, "limpet: ") {
		t.Errorf("check: status %d, %s%s", status, out, errs)
	}
}

// The lines of a start that fails are in the log.
func TestServeLogOfFailure(t *testing.T) {
	dir := testfiles.Write(t, map[string]string{"limpet.yaml": strings.Replace(teapot, "127.0.0.1:0", "192.0.2.1:1", 1) +
		"logs: {output: process.log}\npools: [{name: web, servers: [{address: 127.0.0.1:1}]}]\npersistence: {httpCookie: {}}\n"})
	if status, _, errs := invoke(t, dir, "serve", "DIR/limpet.yaml"); status != failed || !strings.Contains(errs, "192.0.2.1:1") {
		t.Errorf("status %d, %s", status, errs)
	}
	awaitFile(t, filepath.Join(dir, "process.log"), "persistence cookies have no configured keys")
}

// Logs in a pipe that nobody reads delay neither requests nor the end.
func TestServeLogPipe(t *testing.T) {
	dir := testfiles.Write(t, map[string]string{"limpet.yaml": teapot + "accessLog: {output: pipe, format: json}\n"})
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, filepath.Join(dir, "limpet.yaml"))
	for range 1000 { // more than the pipe can store
		if got := get(t, p.url); !strings.HasPrefix(got, "418 ") {
			t.Fatal(got)
		}
	}
	p.end()
}
