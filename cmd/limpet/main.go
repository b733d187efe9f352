// Limpet runs, checks, tests and explains virtual services of DataScripts,
// policies and pools. It does nothing that the library cannot do.
//
//	limpet serve CONFIG          serve until interrupted; SIGHUP reads CONFIG anew
//	limpet explain CONFIG URL    show what would become of a request
//	limpet check FILE...         check configurations and scripts
//	limpet test PATH...          run the txtar cases in files and directories
//	limpet schema                print a JSON Schema of configurations
//	limpet version               print the version
//
// Each command lists its flags with -h. docs/reference/configuration.md describes the
// configuration.
package main

import (
	"context"
	"errors"
	"flag"
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

// A command runs one of the subcommands, and returns the exit status.
type command func(ctx context.Context, args []string, out, errs io.Writer) int

var commands = map[string]command{"serve": serve, "explain": explain, "check": check, "test": test, "schema": schema, "version": version}

const usage = `usage:
  limpet serve [flags] CONFIG
  limpet explain [flags] CONFIG URL
  limpet check [flags] FILE...
  limpet test [flags] PATH...
  limpet schema
  limpet version
`

func run(ctx context.Context, args []string, out, errs io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(errs, usage)
		return misuse
	}
	if c := commands[args[0]]; c != nil {
		return c(ctx, args[1:], out, errs)
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		fmt.Fprint(out, usage)
		return ok
	}
	fmt.Fprintf(errs, "limpet: no command %q\n%s", args[0], usage)
	return misuse
}

// flags returns a flag set whose usage begins with a line for the command.
func flags(line string, errs io.Writer) *flag.FlagSet {
	f := flag.NewFlagSet(line, flag.ContinueOnError)
	f.SetOutput(errs)
	f.Usage = func() {
		fmt.Fprintf(errs, "usage: limpet %s\n", line)
		f.PrintDefaults()
	}
	return f
}

// parse parses a command line that has at least least arguments and, unless
// most is 0, at most most. Unless it succeeds, it has reported why, and status is
// the exit status.
func parse(f *flag.FlagSet, args []string, least, most int) (status int, done bool) {
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return ok, true
	case err != nil:
		return misuse, true
	case f.NArg() < least, most > 0 && f.NArg() > most:
		f.Usage()
		return misuse, true
	}
	return ok, false
}

// complain writes an error.
func complain(errs io.Writer, err error) {
	fmt.Fprintf(errs, "limpet: %s\n", strings.TrimPrefix(err.Error(), "limpet: "))
}
