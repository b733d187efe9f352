package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/limpetlb/limpet/datascript/datascripttest"
)

// test runs txtar cases.
func test(ctx context.Context, args []string, out, errs io.Writer) int {
	f := flags("test [flags] PATH...", errs)
	cover := f.Bool("cover", false, "list the lines of the scripts that no case has run")
	profile := f.String("coverprofile", "", "write these lines to a `file` in the format of lcov")
	update := f.Bool("update", false, "write what came out into the want sections of the cases")
	verbose := f.Bool("v", false, "name each case")
	if status, done := parse(f, args, 1, 0); done {
		return status
	}
	files, err := caseFiles(f.Args())
	if err != nil {
		complain(errs, err)
		return failed
	}
	o := datascripttest.Options{Update: *update}
	if *cover || *profile != "" {
		o.Coverage = &datascripttest.Coverage{}
	}
	failures := 0
	for _, file := range files {
		if ctx.Err() != nil {
			fmt.Fprintln(errs, "limpet: interrupted")
			return failed
		}
		r := &reporter{out: out}
		datascripttest.RunFiles(r, literal(file), o)
		switch {
		case r.failed:
			failures++
			fmt.Fprintf(out, "FAIL %s\n", file)
		case *verbose:
			fmt.Fprintf(out, "ok   %s\n", file)
		}
	}
	if *cover {
		fmt.Fprint(out, o.Coverage)
	}
	if *profile != "" {
		if err := writeProfile(*profile, o.Coverage); err != nil {
			complain(errs, err)
			return failed
		}
	}
	fmt.Fprintf(out, "%d cases, %d failed\n", len(files), failures)
	if failures > 0 {
		return failed
	}
	return ok
}

// caseFiles returns the files named, and those in the directories named and
// below them whose names end with ".txtar".
func caseFiles(paths []string) (files []string, err error) {
	for _, path := range paths {
		n := len(files)
		err := filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && (p == path || strings.HasSuffix(p, ".txtar")) {
				files = append(files, p)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		if len(files) == n {
			return nil, fmt.Errorf("%s: no case (a file with a name such as a.txtar)", path)
		}
	}
	return files, nil
}

// literal is the pattern that matches a file name only.
func literal(name string) string {
	if filepath.Separator == '\\' { // there is no escape then
		return name
	}
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(name)
}

func writeProfile(name string, c *datascripttest.Coverage) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(c.WriteLCOV(f), f.Close())
}

// A reporter writes what is reported to it.
type reporter struct {
	out    io.Writer
	failed bool
}

// Helper does nothing.
func (r *reporter) Helper() {}

// Errorf reports a failure.
func (r *reporter) Errorf(format string, args ...any) {
	r.failed = true
	r.Logf(format, args...)
}

// Fatalf reports a failure; the run goes on with the next case.
func (r *reporter) Fatalf(format string, args ...any) { r.Errorf(format, args...) }

// Logf writes a line.
func (r *reporter) Logf(format string, args ...any) { fmt.Fprintf(r.out, format+"\n", args...) }
