package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/limpetlb/limpet/config"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/scriptfile"
)

// check compiles scripts, and reports faults and warnings. A configuration is
// checked as a whole, with the scripts that it names.
func check(ctx context.Context, args []string, out, errs io.Writer) int {
	f := flags("check [flags] SCRIPT|CONFIG...", errs)
	var ev datascript.Event
	f.Func("event", "the `event` of files without event headings", func(s string) error { return ev.UnmarshalText([]byte(s)) })
	strict := f.Bool("strict", false, "fail on warnings, too")
	if status, done := parse(f, args, 1, 0); done {
		return status
	}
	status := ok
	warn := func(line any) {
		fmt.Fprintln(out, line)
		if *strict {
			status = failed
		}
	}
	for _, file := range f.Args() {
		switch filepath.Ext(file) {
		case ".yaml", ".yml", ".json":
			loaded, err := config.Load(ctx, file)
			if err != nil {
				fmt.Fprintln(out, err)
				status = failed
				continue
			}
			for _, w := range loaded.Warnings() {
				warn(w)
			}
			continue
		}
		script, err := loadScript(file, ev)
		if err != nil {
			fmt.Fprintf(out, "%s: %v\n", file, err)
			status = failed
			continue
		}
		for _, w := range script.Warnings() {
			warn(fmt.Sprintf("%s:%v", file, w))
		}
	}
	return status
}

// loadScript compiles the script in a file.
func loadScript(file string, ev datascript.Event) (*datascript.Script, error) {
	source, err := readFile(file, scriptfile.MaxBytes)
	if err != nil {
		return nil, err
	}
	return scriptfile.Compile(file, "", ev, string(source))
}

// readFile reads a file of at most max bytes, without a byte order mark.
func readFile(name string, max int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, max+1))
	if err == nil && int64(len(data)) > max {
		err = fmt.Errorf("%s: longer than %d bytes", name, max)
	}
	return bytes.TrimPrefix(data, []byte("\ufeff")), err
}
