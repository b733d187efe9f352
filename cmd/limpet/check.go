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
			scripts, err := checkConfig(file)
			if err != nil {
				fmt.Fprintln(out, err)
				status = failed
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
// scripts if there is no fault.
func checkConfig(file string) ([]checkedScript, error) {
	c, err := readConfig(file)
	if err != nil {
		return nil, err
	}
	b, err := c.build(filepath.Dir(file), kept{}, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	vs, err := b.tryOut()
	if err != nil {
		return nil, err
	}
	vs.CloseIdleConnections()
	scripts := make([]checkedScript, len(b.cfg.Scripts))
	for i, s := range b.cfg.Scripts {
		scripts[i] = checkedScript{b.path(c.Scripts[i].File), s.Script}
	}
	return scripts, nil
}
