package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/limpetlb/limpet/internal/testwait"
)

// A notice is what a process tells its manager.
type notice struct {
	process int
	text    string
}

// listenForNotices is a manager that knows who tells it something.
func listenForNotices(t *testing.T) (path string, told chan notice) {
	t.Helper()
	path, told = filepath.Join(t.TempDir(), "notify"), make(chan notice, 1000)
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	raw, err := socket.SyscallConn()
	if err == nil {
		var failed error
		err = raw.Control(func(fd uintptr) {
			failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_PASSCRED, 1)
		})
		if err == nil {
			err = failed
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(told)
		for text, about := make([]byte, 1000), make([]byte, 1000); ; {
			n, m, _, _, err := socket.ReadMsgUnix(text, about)
			if err != nil {
				return
			}
			messages, err := syscall.ParseSocketControlMessage(about[:m])
			if err != nil || len(messages) != 1 {
				t.Errorf("%d control messages, %v", len(messages), err)
				return
			}
			from, err := syscall.ParseUnixCredentials(&messages[0])
			if err != nil {
				t.Error(err)
				return
			}
			told <- notice{int(from.Pid), regexp.MustCompile(`USEC=\d+`).ReplaceAllString(string(text[:n]), "USEC=N")}
		}
	}()
	return path, told
}

// Of two processes only one speaks to the manager: the one that it takes for
// the main one. It hears of each reload that it has asked for, whichever
// process it has signalled, and of its end only when that is done.
func TestNoticesOfUpgrade(t *testing.T) {
	path, told := listenForNotices(t)
	files, address, _ := shop(t)
	g := startGenerations(t, files, func(cmd *exec.Cmd) { cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+path) })
	main := g.now
	expect := func(want ...string) {
		t.Helper()
		for _, w := range want {
			got := testwait.Receive(t, told, "notice "+w)
			if got.process != main {
				t.Errorf("%d says %q while %d is the main process", got.process, got.text, main)
			}
			if got.text != w {
				t.Errorf("%q, not %q", got.text, w)
			}
			if pid, ok := strings.CutPrefix(got.text, "MAINPID="); ok {
				main, _ = strconv.Atoi(pid)
			}
		}
	}
	const serves, reloading = "READY=1\nSTATUS=serving at 2 addresses", "RELOADING=1\nMONOTONIC_USEC=N\nSTATUS=reloading"
	expect("STATUS=starting", serves)
	g.script(t, "exit 7")
	g.signal(syscall.SIGUSR2)
	expect("STATUS=upgrading", serves+", and the last upgrade has failed")

	// A reload while the new process starts is up to that one.
	binary, err := build()
	if err != nil {
		t.Fatal(err)
	}
	began := filepath.Join(g.dir, "began")
	if err := syscall.Mkfifo(began, 0o600); err != nil {
		t.Fatal(err)
	}
	open := dialEcho(t, address)
	g.script(t, fmt.Sprintf("read line <%s\nexec %s \"$@\"", began, binary))
	g.signal(syscall.SIGUSR2)
	expect("STATUS=upgrading")
	old := main
	g.signal(syscall.SIGHUP)
	expect(reloading)
	if err := os.WriteFile(began, []byte("go\n"), 0); err != nil {
		t.Fatal(err)
	}
	line := g.await("msg=upgraded")
	next := upgradedTo.FindStringSubmatch(line)[1]
	expect("MAINPID="+next, reloading, serves)
	g.now = main
	g.await("configuration unchanged")

	// So is one that comes to the old process later.
	if err := syscall.Kill(old, syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	expect(reloading, serves)
	if err := open.check("still there"); err != nil {
		t.Error(err)
	}
	open.Close()
	g.await(ended)
	g.stop()
	expect("STOPPING=1\nSTATUS=draining")
	if len(told) > 0 {
		t.Errorf("and then %+v", <-told)
	}
}
