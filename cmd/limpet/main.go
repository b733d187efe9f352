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
	root := newRoot()
	root.SetOut(out)
	root.SetErr(errs)
	root.SetArgs(doubleDashes(root, args, errs))
	c, err := root.ExecuteContextC(ctx)
	if err == nil {
		return ok
	}
	if status, is := errors.AsType[exitStatus](err); is {
		return int(status)
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

// complain writes an error.
func complain(errs io.Writer, err error) {
	fmt.Fprintf(errs, "limpet: %s\n", strings.TrimPrefix(err.Error(), "limpet: "))
}
