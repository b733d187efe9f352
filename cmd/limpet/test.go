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

	"github.com/spf13/cobra"

	"github.com/limpetlb/limpet/datascript/datascripttest"
	"github.com/limpetlb/limpet/internal/filewatch"
	"github.com/limpetlb/limpet/internal/interrupt"
)

// testOptions are those of the command test.
type testOptions struct {
	cover, update, verbose bool
	profile                string
}

func newTest() *cobra.Command {
	var o testOptions
	c := &cobra.Command{
		Use:   "test [flags] PATH...",
		Short: "run test cases of scripts",
		Long: "Run the cases in files, and in all files below directories whose names end in .txtar, without sockets and servers. " +
			"The status is 1 if a case fails or PATH does not exist.",
		Args:              arguments(1, -1),
		ValidArgsFunction: filesEnding("txtar"),
		RunE:              running(o.test),
	}
	c.Flags().BoolVar(&o.cover, "cover", false, "list, for each script and event, the lines that no case has run")
	c.Flags().StringVar(&o.profile, "coverprofile", "", "write them to a `file` in the format of lcov; genhtml makes pages of it")
	c.Flags().BoolVar(&o.update, "update", false, "write the results into the cases, as the expected ones")
	c.Flags().BoolVarP(&o.verbose, "verbose", "v", false, "name each case, not only those that fail")
	return c
}

// test runs txtar cases.
func (o *testOptions) test(ctx context.Context, paths []string, out, errs io.Writer) int {
	files, err := caseFiles(paths)
	if err != nil {
		complain(errs, err)
		return failed
	}
	options := datascripttest.Options{Update: o.update}
	if o.cover || o.profile != "" {
		options.Coverage = &datascripttest.Coverage{}
	}
	failures := 0
	for _, file := range files {
		r := &reporter{ctx: ctx, out: out}
		datascripttest.RunFiles(r, literal(file), options)
		switch {
		case ctx.Err() != nil:
			return interrupted(errs)
		case r.failed:
			failures++
			fmt.Fprintf(out, "FAIL %s\n", file)
		case o.verbose:
			fmt.Fprintf(out, "ok   %s\n", file)
		}
	}
	if o.cover {
		fmt.Fprint(out, options.Coverage)
	}
	if o.profile != "" {
		if err := writeProfile(ctx, o.profile, options.Coverage); err != nil {
			if ctx.Err() != nil {
				return interrupted(errs)
			}
			complain(errs, err)
			return failed
		}
	}
	noun := "cases"
	if len(files) == 1 {
		noun = "case"
	}
	fmt.Fprintf(out, "%d %s, %d failed\n", len(files), noun, failures)
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
			switch {
			case err != nil || d.IsDir() || p != path && !strings.HasSuffix(p, ".txtar"):
				return err
			case p != path && d.Type()&^fs.ModeSymlink != 0: // a pipe may be meant if it is named
				return fmt.Errorf("%s: not a regular file", p)
			}
			files = append(files, p)
			return nil
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

// writeProfile writes a file, or to a pipe as soon as somebody reads it. Of
// files it replaces profiles only: a slip of the pen must not cost a case or a
// script.
func writeProfile(ctx context.Context, name string, c *datascripttest.Coverage) error {
	_, err := interrupt.Wait(ctx, func() (struct{}, error) {
		if err := replaceable(name); err != nil {
			return struct{}{}, err
		}
		f, err := os.Create(name)
		if err != nil {
			return struct{}{}, err
		}
		return struct{}{}, errors.Join(c.WriteLCOV(f), f.Close())
	})
	return err
}

// replaceable returns an error if there is a file that is no profile.
func replaceable(name string) error {
	info, err := os.Stat(name)
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return nil // os.Create tells
	}
	f, err := filewatch.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	var begins [len(lcov)]byte
	if _, err := io.ReadFull(f, begins[:]); err != nil || string(begins[:]) != lcov {
		return fmt.Errorf("%s: a file that is not a profile", name)
	}
	return nil
}

// lcov is how a profile begins.
const lcov = "TN:\n"

// A reporter writes what is reported to it.
type reporter struct {
	ctx    context.Context
	out    io.Writer
	failed bool
}

// Context ends when the command should.
func (r *reporter) Context() context.Context { return r.ctx }

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
