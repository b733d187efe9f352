//go:build unix

package config

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/limpetlb/limpet/internal/testwait"
)

// modeOf returns the mode of a socket.
func modeOf(t *testing.T, path string) fs.FileMode {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode()
}

// TestSocketMode: the file of a socket has the mode of its listener, whatever
// the umask says, also after a reload and in the process that takes over.
func TestSocketMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	file := func(more string) string {
		return fmt.Sprintf("listeners: [{name: a, address: ['unix:%s', '127.0.0.1:0']%s}]\nprocess: {startWait: 0s, drain: {idle: 20ms}}\n", path, more) + hello
	}
	s := serve(t, map[string]string{"limpet.yaml": file(", mode: 0622")}, Options{})
	check := func(want fs.FileMode) {
		t.Helper()
		if got := modeOf(t, path); got != want|fs.ModeSocket {
			t.Errorf("mode %v, not %v", got, want)
		}
		c := client(s.addrs("a")[0])
		defer c.CloseIdleConnections()
		if got, _ := fetch(c, "http://x/"); !strings.HasPrefix(got, "200 ") {
			t.Error(got)
		}
	}
	check(0o622)
	s.must(file(", mode: '0666'"))
	check(0o666)
	s.must(file(", mode: '0640', maxStreams: 7")) // another server takes the socket over
	check(0o640)
	if changes, err := s.update(file("")); err != nil || len(changes.Restart) != 1 || changes.Restart[0] != "listeners[0].mode" {
		t.Errorf("%+v, %v", changes, err)
	}
	check(0o640)

	if err := os.WriteFile(filepath.Join(s.dir, "limpet.yaml"), []byte(file(", mode: '0600'")), 0o600); err != nil {
		t.Fatal(err)
	}
	h, err := s.HandOver(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	next := take(t, s, h)
	ready, end := next.start()
	testwait.Receive(t, next.waits, "end of the start")
	check(0o640) // while the first may have to go on
	h.Yield()
	next.goes <- nil
	testwait.Receive(t, ready, "start of the next")
	if got := modeOf(t, path); got != 0o600|fs.ModeSocket {
		t.Errorf("mode %v in the next process", got)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	h.Close()
	_ = end()
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the file is there still: %v", err)
	}
}

// TestListenUnix: a file of a process that was killed is replaced, another one
// is not, and what cannot have the mode is not open.
func TestListenUnix(t *testing.T) {
	dir := t.TempDir()
	a := address{unixNetwork, filepath.Join(dir, "s")}
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: a.name, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	if ln, err := listenAt(a, 0o660); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("%v, %v", ln, err)
	}
	left.SetUnlinkOnClose(false)
	left.Close()
	ln, err := listenAt(a, 0o660)
	if err != nil {
		t.Fatal(err)
	}
	if got := modeOf(t, a.name); got != 0o660|fs.ModeSocket {
		t.Errorf("mode %v", got)
	}
	ln.Close()
	if _, err := os.Lstat(a.name); !os.IsNotExist(err) {
		t.Errorf("the file is there still: %v", err)
	}
	if ln, err := listenAt(address{unixNetwork, filepath.Join(dir, "none", "s")}, 0o660); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("%v, %v", ln, err)
	}
}

// TestSocketModeFaults: what is no mode, or the mode of nothing, is a fault.
func TestSocketModeFaults(t *testing.T) {
	for listener, want := range map[string]string{
		"address: 'unix:/s', mode: '0888'":                `listeners[0].mode: "0888" is not the mode of a socket: want octal digits up to 0777, such as "0660"`,
		"address: 'unix:/s', mode: '1777'":                `"1777" is not the mode`,
		"address: 'unix:/s', mode: '0000'":                `"0000" is not the mode`,
		"address: 'unix:/s', mode: '7'":                   `"7" is not the mode`,
		"address: 'unix:/s', mode: 'rw-rw----'":           `"rw-rw----" is not the mode`,
		"address: [':8080', 'unix:@s'], mode: '0660'":     `listeners[0].mode: "0660": without effect: no address is a Unix socket with a path`,
		"address: [':8080', 'unix:/s'], mode: 0660":       "",
		"address: ['unix:/s', 'unix:/t'], mode: \"0777\"": "",
	} {
		_, err := Parse(t.Context(), "limpet.yaml", []byte("listeners: [{name: a, "+listener+"}]\n"+hello), nil)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", listener, err)
		}
	}
}
