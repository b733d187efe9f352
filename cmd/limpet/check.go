package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/limpetlb/limpet/config"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/internal/filewatch"
	"github.com/limpetlb/limpet/internal/scriptfile"
)

func newCheck() *cobra.Command {
	o := checker{report: reportText}
	c := &cobra.Command{
		Use:   "check [flags] FILE...",
		Short: "check configurations and scripts",
		Long: "Report all faults and warnings of configurations and scripts, each in a line. A file is a configuration if its name ends in .yaml, " +
			".yml or .json, and a script if it ends in .lua; --as says so for other names. " +
			"The status is 1 if there is a fault, and 2 if check cannot tell what a file is.",
		Args:              arguments(1, -1),
		ValidArgsFunction: filesEnding("yaml", "yml", "json", "lua"),
		RunE:              running(o.check),
	}
	f := c.Flags()
	f.Func("as", "the `kind` of all files, whatever their names: config or script", o.setKind)
	f.Func("event", "the `event` of scripts without event headings", func(s string) error { return o.event.UnmarshalText([]byte(s)) })
	f.BoolVar(&o.strict, "strict", false, "fail on warnings, too")
	f.Func("format", "the `format` of what is found: text, json or github (default text)", o.setFormat)
	f.BoolVar(&o.options.Resolve, "resolve", false, "look up the host names of servers and dns discoveries")
	f.BoolVar(&o.options.NoKeys, "no-keys", false, "read neither private keys, nor secrets from files and environment variables")
	completing(c, "as", []string{string(configFile), string(scriptFile)})
	completing(c, "event", eventNames())
	completing(c, "format", slices.Sorted(maps.Keys(reports)))
	return c
}

// check reports the faults and warnings of configurations and scripts. A
// configuration is checked as a whole, with the scripts that it names.
func (c *checker) check(ctx context.Context, files []string, out, errs io.Writer) int {
	for _, file := range files {
		if _, err := c.kindOf(file); err != nil {
			complain(errs, err)
			return misuse
		}
	}
	c.out = out
	for _, file := range files {
		if kind, _ := c.kindOf(file); kind == configFile {
			c.config(ctx, file)
		} else {
			c.script(ctx, file)
		}
		if ctx.Err() != nil {
			return interrupted(errs)
		}
	}
	if c.faults > 0 || c.strict && c.warnings > 0 {
		return failed
	}
	return ok
}

// A checker reports what it finds in files.
type checker struct {
	kind    fileKind // of all files; zero if their names say it
	event   datascript.Event
	strict  bool // warnings are faults
	options config.CheckOptions
	out     io.Writer
	report  func(out io.Writer, severity string, e *config.Error)

	faults, warnings int
}

type fileKind string

const (
	configFile fileKind = "config"
	scriptFile fileKind = "script"
)

func (c *checker) setKind(text string) error {
	switch c.kind = fileKind(text); c.kind {
	case configFile, scriptFile:
		return nil
	}
	return errors.New("neither config nor script")
}

func (c *checker) setFormat(text string) error {
	if c.report = reports[text]; c.report == nil {
		return errors.New("not one of text, json, github")
	}
	return nil
}

// kindOf returns what a file is.
func (c *checker) kindOf(file string) (fileKind, error) {
	switch extension := filepath.Ext(file); {
	case c.kind != "":
		return c.kind, nil
	case extension == ".yaml", extension == ".yml", extension == ".json":
		return configFile, nil
	case extension == ".lua":
		return scriptFile, nil
	}
	return "", fmt.Errorf("%s: neither a configuration (.yaml, .yml, .json) nor a script (.lua): say which by --as", file)
}

func (c *checker) config(ctx context.Context, file string) {
	warnings, err := config.Check(ctx, file, c.options)
	if ctx.Err() != nil {
		return
	}
	c.fail(file, err)
	for _, w := range warnings {
		c.warn(w)
	}
}

func (c *checker) script(ctx context.Context, file string) {
	script, err := loadScript(ctx, file, c.event)
	if ctx.Err() != nil {
		return
	}
	c.fail(file, err)
	if err != nil {
		return
	}
	for _, w := range script.Warnings() {
		c.warn(&config.Error{File: file, Line: w.Line, Err: errors.New(w.Message)})
	}
}

// fail reports the faults that an error joins.
func (c *checker) fail(file string, err error) {
	for _, err := range fielderr.Leaves(err) {
		e, ok := err.(*config.Error) //nolint:errorlint // as package config returns it
		if !ok {
			e = &config.Error{File: file, Err: err}
			if in, ok := errors.AsType[*datascript.CompileError](err); ok {
				e.Line = in.Line
			}
			if in, ok := errors.AsType[*fs.PathError](err); ok && in.Path == file {
				e.Err = in.Err
			}
		}
		c.faults++
		c.report(c.out, "fault", e)
	}
}

func (c *checker) warn(e *config.Error) {
	c.warnings++
	c.report(c.out, "warning", e)
}

// loadScript compiles the script in a file, which may be a pipe.
func loadScript(ctx context.Context, file string, ev datascript.Event) (*datascript.Script, error) {
	source, err := filewatch.ReadStream(ctx, file, scriptfile.MaxBytes)
	switch {
	case errors.Is(err, filewatch.ErrTooLarge):
		return nil, fmt.Errorf("longer than %d bytes", scriptfile.MaxBytes)
	case err != nil:
		return nil, err
	}
	return scriptfile.Compile(file, "", ev, string(bytes.TrimPrefix(source, []byte("\ufeff"))))
}

// eventNames are the names of all events.
func eventNames() (names []string) {
	for e := datascript.HTTPAuth; ; e++ {
		name, err := e.MarshalText()
		if err != nil {
			return names
		}
		names = append(names, string(name))
	}
}
