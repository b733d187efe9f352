//go:build unix

package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/limpetlb/limpet/internal/testfiles"
)

// A pipe that is held open, and never written, kept every command: only SIGKILL
// ended it.
func TestPipesHeldOpen(t *testing.T) {
	dir := testfiles.Write(t, map[string]string{"a.txtar": "-- http_req.lua --\nx = 1\n-- request --\nGET / HTTP/1.1\n"})
	binary, err := build()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		args   []string
		reads  bool // the command reads the pipe, else it writes there
		status int
	}{
		{"check", []string{"check", "--as", "config", "PIPE"}, true, failed},
		{"check a script", []string{"check", "--as", "script", "PIPE"}, true, failed},
		{"explain", []string{"explain", "PIPE", "http://a/"}, true, failed},
		{"test", []string{"test", "PIPE"}, true, failed},
		{"profile", []string{"test", "--coverprofile", "PIPE", filepath.Join(dir, "a.txtar")}, false, failed},
		{"serve", []string{"serve", "PIPE"}, true, ok},
		{"serve and watch", []string{"serve", "--watch", "PIPE"}, true, ok},
	} {
		for signal, written := range map[os.Signal]bool{syscall.SIGTERM: true, syscall.SIGINT: false} {
			t.Run(c.name+" "+signal.String(), func(t *testing.T) {
				pipe := testfiles.Pipe(t)
				ctx, cancel := context.WithTimeout(t.Context(), hangLimit)
				defer cancel()
				cmd := exec.CommandContext(ctx, binary)
				for _, arg := range c.args {
					cmd.Args = append(cmd.Args, strings.Replace(arg, "PIPE", pipe, 1))
				}
				var errs strings.Builder
				cmd.Stderr = &errs
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				if written && c.reads {
					w, err := os.OpenFile(pipe, os.O_WRONLY, 0) // waits for the command
					if err != nil {
						t.Fatal(err)
					}
					defer w.Close()
					w.WriteString("#")
				} else {
					<-time.After(100 * time.Millisecond) // it may hang by then
				}
				cmd.Process.Signal(signal)
				_ = cmd.Wait()
				status := cmd.ProcessState.ExitCode()
				// A signal before main has asked for it ends the process, too.
				if early := status == -1 && ctx.Err() == nil; status != c.status && !early {
					t.Errorf("%v, %v: %s", cmd.ProcessState, ctx.Err(), errs.String())
				}
			})
		}
	}
}

// What comes through a pipe is served, and a reload reads the pipe again. While
// it waits for somebody who writes, the service can end. A pipe is not watched:
// a look at it would take what is written there.
func TestServePipe(t *testing.T) {
	binary, err := build()
	if err != nil {
		t.Fatal(err)
	}
	pipe := testfiles.Pipe(t)
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(pipe, []byte(text), 0); err != nil {
			t.Fatal(err)
		}
	}
	p := launchAs(t, nil, binary, "serve", "--watch", pipe)
	write(teapot)
	p.serve()
	if !strings.Contains(strings.Join(p.read, "\n"), "configuration not watched") {
		p.await("configuration not watched: not a regular file")
	}
	p.signal(syscall.SIGHUP)
	write(teapot + "name: other\n")
	p.await("configuration changed")
	p.signal(syscall.SIGHUP)
	w, err := os.OpenFile(pipe, os.O_WRONLY, 0) // waits for the reload
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	p.end()
}
