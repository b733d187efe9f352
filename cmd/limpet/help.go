package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/limpetlb/limpet/config"
	"github.com/limpetlb/limpet/internal/configkeys"
)

func newHelp() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND|KEY]",
		Short: "explain a command, or a key of the configuration",
		Long: "Explain a command, or a key of the configuration: what it is for, its type, default, bounds and unit, what a reload does with it, " +
			"the version that had it first, and an example. " +
			"KEY is the end of a path, such as healthMonitors.interval, or one from an error, such as pools[0].name. " +
			"If several keys end so, help lists them. The status is 2 if there is no such command or key.",
		Args:                  arguments(0, 1),
		ValidArgsFunction:     completeHelp,
		RunE:                  help,
		DisableFlagsInUseLine: true,
	}
}

func help(c *cobra.Command, args []string) error {
	root, out := c.Root(), c.OutOrStdout()
	if len(args) == 0 {
		return root.Help()
	}
	for _, sub := range root.Commands() {
		if sub.Name() == args[0] {
			sub.InitDefaultHelpFlag() // so that it is listed
			return sub.Help()
		}
	}
	keys, err := configkeys.Parse(config.Schema())
	if err != nil {
		return err
	}
	found, exact := keys.Find(args[0])
	switch {
	case len(found) == 0:
		words := strings.Count(args[0], ".") + 1
		among := slices.Values(slices.Concat(commandNames(root), slices.Sorted(maps.Keys(keys.Endings(words)))))
		return fmt.Errorf("no command and no key %q%s", args[0], didYouMean(args[0], among))
	case exact, len(found) == 1:
		key := found[0]
		also := slices.Clone(key.Paths[1:])
		found = slices.DeleteFunc(found[1:], func(k *configkeys.Key) bool {
			same := k.Text == key.Text && k.Type == key.Type && k.Default == key.Default && k.Reload == key.Reload && k.Since == key.Since
			if same {
				also = append(also, k.Paths...)
			}
			return same
		})
		explainKey(out, key, also)
		if len(found) > 0 {
			fmt.Fprint(out, "\nOther keys of this name:\n")
		}
	}
	width := 0
	for _, k := range found {
		width = max(width, len(k.Paths[0]))
	}
	for _, k := range found {
		fmt.Fprintf(out, "%-*s  %s\n", width, k.Paths[0], k.Text)
	}
	return nil
}

// explainKey writes what is known of a key, which has further paths.
func explainKey(out io.Writer, k *configkeys.Key, also []string) {
	fmt.Fprintf(out, "%s\n\n%s\n\n", k.Paths[0], k.Text)
	for _, fact := range []struct{ name, value string }{
		{"type", k.Type}, {"unit", k.Unit}, {"default", k.Default}, {"least", k.Min}, {"most", k.Max},
		{"reload", k.Reload}, {"since", k.Since}, {"keys", strings.Join(k.Keys, ", ")}, {"example", k.Example},
	} {
		if fact.value != "" {
			fmt.Fprintf(out, "%-8s %s\n", fact.name, fact.value)
		}
	}
	for i, path := range also {
		name := ""
		if i == 0 {
			name = "also"
		}
		fmt.Fprintf(out, "%-8s %s\n", name, path)
	}
}

// completeHelp completes the names of commands, and the ends of the paths of
// keys.
func completeHelp(c *cobra.Command, args []string, begun string) (all []string, _ cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	for _, sub := range c.Root().Commands() {
		if sub.IsAvailableCommand() && strings.HasPrefix(sub.Name(), begun) {
			all = append(all, cobra.CompletionWithDesc(sub.Name(), sub.Short))
		}
	}
	keys, err := configkeys.Parse(config.Schema())
	if err != nil {
		return all, cobra.ShellCompDirectiveError
	}
	endings := keys.Endings(strings.Count(begun, ".") + 1)
	for _, path := range slices.Sorted(maps.Keys(endings)) {
		if strings.HasPrefix(path, begun) {
			all = append(all, cobra.CompletionWithDesc(path, endings[path].Text))
		}
	}
	return all, cobra.ShellCompDirectiveNoFileComp
}
