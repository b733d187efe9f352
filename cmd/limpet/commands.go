package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/limpetlb/limpet/internal/suggest"
)

// newRoot makes the tree of commands.
func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "limpet COMMAND",
		Short: "run, check, test and explain virtual services that stick clients to servers",
		Long: "Run, check, test and explain virtual services of pools, policies and DataScripts. The status is 0 unless a command says otherwise, " +
			"and 2 for a wrong command line.",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return fmt.Errorf("no command %q%s", args[0], didYouMean(args[0], slices.Values(commandNames(c))))
		},
		RunE: func(c *cobra.Command, args []string) error {
			if asked, err := c.Flags().GetBool("version"); err == nil && asked {
				return running(new(versionOptions).version)(c, args)
			}
			fmt.Fprint(c.ErrOrStderr(), c.UsageString())
			return exitStatus(misuse)
		},
		DisableFlagsInUseLine: true,
		DisableAutoGenTag:     true,
	}
	root.CompletionOptions.DisableDefaultCmd = true // newCompletion takes its place
	root.SetFlagErrorFunc(flagError)
	root.Flags().BoolP("version", "v", false, "print the version, as the command version does")
	_ = root.Flags().MarkHidden("version") // a habit; the command is documented
	root.SetHelpCommand(newHelp())
	root.AddCommand(newServe(), newExplain(), newCheck(), newTest(), newSchema(), newCompletion(), newVersion())
	return root
}

// commandNames are the names of the commands of a tree.
func commandNames(root *cobra.Command) (names []string) {
	for _, c := range root.Commands() {
		names = append(names, c.Name())
	}
	return names
}

// A command's work is a function that returns the exit status.
type work func(ctx context.Context, args []string, out, errs io.Writer) int

// running makes the work one of a command.
func running(w work) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		if status := w(c.Context(), args, c.OutOrStdout(), c.ErrOrStderr()); status != ok {
			return exitStatus(status)
		}
		return nil
	}
}

// arguments accepts from least to most arguments; most < 0 means any number.
func arguments(least, most int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return fmt.Errorf("%s: an argument is missing", c.Name())
		case most >= 0 && len(args) > most:
			return fmt.Errorf("%s: unexpected argument %q", c.Name(), args[most])
		}
		return nil
	}
}

// didYouMean is the end of an error about a word: the one that it was perhaps
// meant to be.
func didYouMean(word string, among iter.Seq[string]) string {
	if near := suggest.Nearest(word, among); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	return ""
}

// flagError says which option a misspelt one was perhaps meant to be.
func flagError(c *cobra.Command, err error) error {
	if unknown, is := errors.AsType[*pflag.NotExistError](err); is && unknown.GetSpecifiedShortnames() == "" {
		name := unknown.GetSpecifiedName()
		var all []string
		c.Flags().VisitAll(func(f *pflag.Flag) { all = append(all, "--"+f.Name) })
		err = fmt.Errorf("no option --%s%s", name, didYouMean("--"+name, slices.Values(all)))
	}
	return fmt.Errorf("%s: %w", c.Name(), err)
}

// doubleDashes gives options with one dash, as in -strict, their second one,
// and says so.
func doubleDashes(c *cobra.Command, args []string, errs io.Writer) []string {
	args = append([]string{}, args...) // not nil, which cobra takes for the arguments of the process
	for i := 0; i < len(args) && args[i] != "--"; i++ {
		arg := args[i]
		if !strings.HasPrefix(arg, "-") {
			if at := slices.IndexFunc(c.Commands(), func(sub *cobra.Command) bool { return sub.Name() == arg }); at >= 0 {
				c = c.Commands()[at]
			}
			continue
		}
		c.InitDefaultHelpFlag()
		name, _, valued := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-"), "=")
		f := c.Flags().Lookup(name)
		if f == nil {
			continue // shorthands, or a fault
		}
		if len(name) > 1 && !strings.HasPrefix(arg, "--") {
			fmt.Fprintf(errs, "limpet: -%s is deprecated, and ends with 0.2: write --%[1]s\n", name)
			args[i] = "-" + arg
		}
		if !valued && f.NoOptDefVal == "" {
			i++ // which is its value, whatever it looks like
		}
	}
	return args
}
