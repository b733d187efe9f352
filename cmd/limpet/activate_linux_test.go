package main

import (
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/limpetlb/limpet/internal/testfiles"
	"github.com/limpetlb/limpet/internal/testwait"
)

// What systemd itself passes on is understood.
func TestSystemdSocketActivate(t *testing.T) {
	program, err := exec.LookPath("systemd-socket-activate")
	if err != nil {
		t.Fatal(err)
	}
	dir := testfiles.Write(t, map[string]string{"limpet.yaml": "listeners: [{name: a, address: fd:web}, {name: b, address: fd:admin}]\n" + teapotRule})
	binary, err := build()
	if err != nil {
		t.Fatal(err)
	}
	var sockets [2]string
	for i := range sockets {
		sockets[i] = filepath.Join(dir, fmt.Sprint("socket", i))
	}
	cmd := exec.CommandContext(t.Context(), program, "--listen="+sockets[0], "--listen="+sockets[1], "--fdname=web:admin", binary, "serve", filepath.Join(dir, "limpet.yaml"))
	first := make(chan error, 1)
	go func() {
		// It starts the command when somebody connects.
		var c net.Conn
		var err error
		for range 10_000 {
			if c, err = net.Dial("unix", sockets[0]); err == nil {
				break
			}
			<-time.After(time.Millisecond)
		}
		if err == nil {
			_, err = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		}
		if err == nil {
			_, err = io.ReadAll(c)
			c.Close()
		}
		first <- err
	}()
	p := startCommand(t, cmd).serve()
	p.await("msg=serving")
	if err := testwait.Receive(t, first, "answer"); err != nil {
		t.Error(err)
	}
	p.end()
}
