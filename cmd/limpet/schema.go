package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/limpetlb/limpet/config"
)

func newSchema() *cobra.Command {
	return &cobra.Command{
		Use:                   "schema",
		Short:                 "print a JSON Schema of configurations",
		Long:                  "Print a JSON Schema (2020-12) of configurations, with which editors complete keys and mark faults.",
		Args:                  arguments(0, 0),
		ValidArgsFunction:     cobra.NoFileCompletions,
		RunE:                  running(schema),
		DisableFlagsInUseLine: true,
	}
}

// schema prints the JSON Schema of configurations.
func schema(_ context.Context, _ []string, out, errs io.Writer) int {
	if _, err := out.Write(config.Schema()); err != nil {
		complain(errs, err)
		return failed
	}
	return ok
}
