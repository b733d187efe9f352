package main

import (
	"context"
	"io"

	"github.com/limpetlb/limpet/config"
)

// schema prints the JSON Schema of configurations.
func schema(_ context.Context, args []string, out, errs io.Writer) int {
	f := flags("schema", errs)
	if status, done := parse(f, args, 0, 0); done {
		return status
	}
	if f.NArg() > 0 {
		f.Usage()
		return misuse
	}
	if _, err := out.Write(config.Schema()); err != nil {
		complain(errs, err)
		return failed
	}
	return ok
}
