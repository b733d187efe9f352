package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/limpetlb/limpet/config"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/scriptfile"
)

// checkOptions are those of the command check.
type checkOptions struct {
	event  datascript.Event
	strict bool
}

func newCheck() *cobra.Command {
	var o checkOptions
	c := &cobra.Command{
		Use:   "check [flags] FILE...",
		Short: "check configurations and scripts",
		Long: "Check files, and print their faults and warnings. A file whose name ends in .yaml, .yml or .json is a configuration, " +
			"which is checked as a whole, with all that it names. Any other file is a script. The status is 1 if one has a fault.",
		Args:              arguments(1, -1),
		ValidArgsFunction: filesEnding("yaml", "yml", "json", "lua"),
		RunE:              running(o.check),
	}
	c.Flags().Func("event", "the `event` of scripts without event headings", func(s string) error { return o.event.UnmarshalText([]byte(s)) })
	c.Flags().BoolVar(&o.strict, "strict", false, "fail on warnings, too")
	completing(c, "event", eventNames())
	return c
}

// check compiles scripts, and reports faults and warnings. A configuration is
// checked as a whole, with the scripts that it names.
func (o *checkOptions) check(ctx context.Context, files []string, out, _ io.Writer) int {
	status := ok
	warn := func(line any) {
		fmt.Fprintln(out, line)
		if o.strict {
			status = failed
		}
	}
	for _, file := range files {
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
		script, err := loadScript(file, o.event)
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
