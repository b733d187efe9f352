package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"

	"github.com/limpetlb/limpet/datascript"
)

// check compiles scripts, and reports faults and warnings. A configuration is
// checked as a whole, with the scripts that it names.
func check(_ context.Context, args []string, out, errs io.Writer) int {
	f := flags("check [flags] SCRIPT|CONFIG...", errs)
	var ev datascript.Event
	f.Func("event", "the `event` of files without event headings", func(s string) error { return ev.UnmarshalText([]byte(s)) })
	strict := f.Bool("strict", false, "fail on warnings, too")
	if status, done := parse(f, args, 1, 0); done {
		return status
	}
	status := ok
	warn := func(file string, script *datascript.Script) {
		for _, w := range script.Warnings() {
			fmt.Fprintf(out, "%s:%v\n", file, w)
			if *strict {
				status = failed
			}
		}
	}
	for _, file := range f.Args() {
		if ext := filepath.Ext(file); ext == ".yaml" || ext == ".yml" {
			scripts, warnings, err := checkConfig(file)
			if err != nil {
				fmt.Fprintln(out, err)
				status = failed
			}
			for _, w := range warnings {
				fmt.Fprintf(out, "%s: %s\n", file, w)
				if *strict {
					status = failed
				}
			}
			for _, s := range scripts {
				warn(s.file, s.script)
			}
			continue
		}
		script, err := loadScript(file, "", ev)
		if err != nil {
			fmt.Fprintf(out, "%s: %v\n", file, err)
			status = failed
			continue
		}
		warn(file, script)
	}
	return status
}

// A checkedScript is one that a configuration names.
type checkedScript struct {
	file   string
	script *datascript.Script
}

// checkConfig makes a virtual service of a configuration, and returns its
// scripts and what the virtual service warns of if there is no fault.
func checkConfig(file string) ([]checkedScript, []string, error) {
	warnings := &warnings{}
	b, vs, err := prepare(file, kept{}, slog.New(warnings))
	if err != nil {
		return nil, nil, err
	}
	vs.CloseIdleConnections()
	scripts := make([]checkedScript, len(b.cfg.Scripts))
	for i, s := range b.cfg.Scripts {
		scripts[i] = checkedScript{b.path(b.Scripts[i].File), s.Script}
	}
	return scripts, warnings.lines, nil
}

// warnings are what a virtual service logs when it is made, but for the
// warnings of scripts, which have places of their own.
type warnings struct{ lines []string }

func (*warnings) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

func (w *warnings) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "doubtful script" {
		return nil
	}
	line := r.Message
	r.Attrs(func(a slog.Attr) bool {
		if a.Key != "vs" {
			line += fmt.Sprintf(" %s=%v", a.Key, a.Value)
		}
		return true
	})
	w.lines = append(w.lines, line)
	return nil
}

func (w *warnings) WithAttrs([]slog.Attr) slog.Handler { return w }

func (w *warnings) WithGroup(string) slog.Handler { return w }
