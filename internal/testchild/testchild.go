// Package testchild runs a test once more in a process of its own, where it may
// have limits, use up memory or be stopped:
//
//	func TestSomething(t *testing.T) {
//		if testchild.Running() {
//			fmt.Println(serve(t))
//			testchild.Wait()
//			return
//		}
//		c := testchild.Start(t, testchild.Command(t))
//		address := c.Line()
//		…
//		c.End()
//	}
package testchild

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

const variable = "LIMPET_TEST_CHILD"

// Running reports whether this process was made by [Command].
func Running() bool { return os.Getenv(variable) != "" }

// Wait returns when the test calls [Child.End], or its process is gone. It is
// for the process that Command made.
func Wait() { _, _ = io.Copy(io.Discard, os.Stdin) }

// Command returns a command that runs the top-level test of t, and no other,
// with these variables in its environment as well. It ends with t.
func Command(t testing.TB, env ...string) *exec.Cmd {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	test, _, _ := strings.Cut(t.Name(), "/")
	cmd := exec.CommandContext(t.Context(), binary, "-test.run=^"+test+"$", "-test.count=1")
	cmd.Env = append(append(os.Environ(), variable+"=1"), env...)
	return cmd
}

// A Child is a process that [Start] has started.
type Child struct {
	*exec.Cmd
	t     testing.TB
	stdin io.Closer
	lines *bufio.Scanner
}

// Start starts a process. What it writes to standard error appears as that of
// the test.
func Start(t testing.TB, cmd *exec.Cmd) *Child {
	t.Helper()
	c := &Child{Cmd: cmd, t: t}
	if cmd.Stderr == nil {
		cmd.Stderr = os.Stderr
	}
	var err error
	if c.stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.lines = bufio.NewScanner(stdout)
	return c
}

// Line returns the next line of the process's standard output. Without one the
// test fails.
func (c *Child) Line() string {
	c.t.Helper()
	if !c.lines.Scan() {
		c.t.Fatalf("the process of %s has ended: %v", c.t.Name(), c.Wait())
	}
	return c.lines.Text()
}

// End lets the process end and returns what it still writes to standard output;
// its last line is that of every test, PASS. The test fails if the process
// does.
func (c *Child) End() (lines []string) {
	c.t.Helper()
	c.stdin.Close()
	for c.lines.Scan() {
		lines = append(lines, c.lines.Text())
	}
	if err := c.Wait(); err != nil {
		c.t.Errorf("the process ended with %v", err)
	}
	return lines
}
