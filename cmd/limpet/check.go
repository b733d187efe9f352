package main

import (
	"context"
	"fmt"
	"io"

	"github.com/limpetlb/limpet/datascript"
)

// check compiles scripts, and reports faults and warnings.
func check(_ context.Context, args []string, out, errs io.Writer) int {
	f := flags("check [flags] SCRIPT...", errs)
	var ev datascript.Event
	f.Func("event", "the `event` of files without event headings", func(s string) error { return ev.UnmarshalText([]byte(s)) })
	strict := f.Bool("strict", false, "fail on warnings, too")
	if status, done := parse(f, args, 1, 0); done {
		return status
	}
	status := ok
	for _, file := range f.Args() {
		script, err := loadScript(file, "", ev)
		if err != nil {
			fmt.Fprintf(out, "%s: %v\n", file, err)
			status = failed
			continue
		}
		for _, w := range script.Warnings() {
			fmt.Fprintf(out, "%s:%v\n", file, w)
			if *strict {
				status = failed
			}
		}
	}
	return status
}
