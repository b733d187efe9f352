// Limpet runs, checks, tests and explains virtual services of DataScripts,
// policies and pools. It does nothing that the library cannot do.
//
//	limpet serve CONFIG          serve until interrupted; SIGHUP reads CONFIG anew
//	limpet explain CONFIG URL    show what would become of a request
//	limpet check FILE...         check configurations and scripts
//	limpet test PATH...          run the txtar cases in files and directories
//	limpet help COMMAND|KEY      explain a command, or a key of configurations
//	limpet schema                print a JSON Schema of configurations
//	limpet completion SHELL      print a script that completes command lines
//	limpet version               print the version
//
// Each command lists its options with --help. docs/reference/command.md
// describes the commands, docs/reference/configuration.md the configuration.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// The exit statuses.
const (
	ok     = 0
	failed = 1 // what was looked at is not right
	misuse = 2 // of the command line
	cutOff = 3 // requests were under way when serve had to end
)

// exitStatus is one that a command ends with, other than ok, after it has said
// why.
type exitStatus int

// Error implements error.
func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

func run(ctx context.Context, args []string, out, errs io.Writer) int {
	root, printed := newRoot(), &output{to: out}
	root.SetOut(printed)
	root.SetErr(errs)
	root.SetArgs(doubleDashes(root, args, errs))
	c, err := root.ExecuteContextC(ctx)
	if status, is := errors.AsType[exitStatus](err); is {
		return int(status)
	}
	if printed.err != nil {
		complain(errs, printed.err)
		return failed
	}
	if err == nil {
		return ok
	}
	complain(errs, err)
	fmt.Fprintf(errs, "usage: %s\n", c.UseLine())
	return misuse
}

// interrupted says that a command was asked to end before it was done, and
// returns its status.
func interrupted(errs io.Writer) int {
	fmt.Fprintln(errs, "limpet: interrupted")
	return failed
}

// An output is where commands print. It keeps the first error, so that commands
// need not look.
type output struct {
	to  io.Writer
	err error
}

// Write implements [io.Writer].
func (o *output) Write(p []byte) (int, error) {
	n, err := o.to.Write(p)
	if o.err == nil {
		o.err = err
	}
	return n, err
}

// complain writes an error.
func complain(errs io.Writer, err error) {
	fmt.Fprintf(errs, "limpet: %s\n", strings.TrimPrefix(err.Error(), "limpet: "))
}
