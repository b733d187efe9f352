//go:build unix

package systemd

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/limpetlb/limpet/internal/testchild"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What the manager is told, as it comes out of its socket.
func TestNotify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	clock := regexp.MustCompile(`MONOTONIC_USEC=[1-9][0-9]*`)
	for _, c := range []struct {
		err  error
		want string
	}{
		{Status("starting"), "STATUS=starting"},
		{Ready("serving"), "READY=1\nSTATUS=serving"},
		{Reloading(), "RELOADING=1\nMONOTONIC_USEC=N\nSTATUS=reloading"},
		{Alive(), "WATCHDOG=1"},
		{Main(4711), "MAINPID=4711"},
		{Stopping("draining"), "STOPPING=1\nSTATUS=draining"},
	} {
		if c.err != nil {
			t.Fatal(c.err)
		}
		text := make([]byte, 1000)
		n, err := manager.Read(text)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, clock.ReplaceAllString(string(text[:n]), "MONOTONIC_USEC=N")); diff != "" {
			t.Error(diff)
		}
	}
	manager.Close()
	if err := Alive(); err == nil {
		t.Error("no error without a manager at the socket")
	}
	t.Setenv("NOTIFY_SOCKET", "")
	if err := Ready("serving"); err != nil {
		t.Errorf("without a manager: %v", err)
	}
}

func TestWatchdog(t *testing.T) {
	for _, c := range []struct {
		usec, pid string
		want      time.Duration
		fails     bool
	}{
		{"", "", 0, false},
		{"30000000", strconv.Itoa(os.Getpid()), 30 * time.Second, false},
		{"30000000", strconv.Itoa(os.Getppid()), 0, false},
		{"never", "", 0, true},
	} {
		t.Setenv("WATCHDOG_USEC", c.usec)
		t.Setenv("WATCHDOG_PID", c.pid)
		if got, err := Watchdog(); got != c.want || (err != nil) != c.fails {
			t.Errorf("%q %q: %v, %v", c.usec, c.pid, got, err)
		}
	}
}

// Sockets are found by their names, which several can have, and stay inherited.
func TestSockets(t *testing.T) {
	if testchild.Running() {
		t.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
		sockets := Inherit()
		for _, name := range []string{"web", "web", "none", "file"} {
			all, err := sockets.Open(name)
			fmt.Println(name, len(all), err != nil)
			for _, ln := range all {
				fmt.Println(ln.Addr())
				ln.Close()
			}
		}
		fmt.Println(sockets.Unused(), os.Getenv("LISTEN_FDS"), len(Inherit().files))
		testchild.Wait()
		return
	}
	cmd := testchild.Command(t, "LISTEN_FDS=4", "LISTEN_FDNAMES=web:admin:web:file")
	var want []string
	for _, network := range []string{"tcp", "tcp", "unix"} {
		address := "127.0.0.1:0"
		if network == "unix" {
			address = filepath.Join(t.TempDir(), "socket")
		}
		ln, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		f, err := ln.(interface{ File() (*os.File, error) }).File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
		want = append(want, ln.Addr().String())
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	cmd.ExtraFiles = append(cmd.ExtraFiles, null)
	child := testchild.Start(t, cmd)
	var got []string
	for range 9 {
		got = append(got, child.Line())
	}
	child.End()
	twice := []string{"web 2 false", want[0], want[2]}
	if diff := cmp.Diff(append(append(twice, twice...), "none 0 false", "file 0 true", "[admin]  0"), got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if strings.Contains(strings.Join(got, ""), "LISTEN") {
		t.Error("the environment is passed on")
	}
}
