package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"
)

// releaseDir is where a release gets its manual pages and completions from.
var releaseDir = flag.String("release", "", "write manual pages and completions to this `directory`")

// releaseFile writes a file of a release, if this is made for one.
func releaseFile(t *testing.T, name string, content []byte) {
	t.Helper()
	if *releaseDir != "" {
		if err := os.WriteFile(filepath.Join(*releaseDir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// referenceSections are the sections of the reference of the command by title,
// that above the first one by "".
func referenceSections(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../../docs/reference/command.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	for i, section := range strings.Split("\n"+string(text), "\n## ") {
		title, section, _ := strings.Cut(section, "\n")
		if i == 0 {
			_, section, _ = strings.Cut(section, "\n")
			title = ""
		}
		sections[title] = strings.TrimSpace(section)
	}
	return sections
}

var markdownLink = regexp.MustCompile(`\[([^\]]*(?:\[[^\]]*\][^\]]*)?)\]\([^)]*\)`)

// TestReference compares the reference with the commands: what they say with
// --help, and their options.
func TestReference(t *testing.T) {
	sections := referenceSections(t)
	root := newRoot()
	root.InitDefaultHelpCmd()
	var table strings.Builder
	for _, c := range root.Commands() {
		use := strings.ReplaceAll(strings.Replace(c.Use, " [flags]", "", 1), "|", `\|`)
		fmt.Fprintf(&table, "| [`limpet %s`](#%s) | %s |\n", use, c.Name(), c.Short)

		section, ok := sections[c.Name()]
		if !ok {
			t.Errorf("no section about %s", c.Name())
			continue
		}
		delete(sections, c.Name())
		first, section, _ := strings.Cut(section, "\n\n")
		if first = strings.NewReplacer("\n", " ", "`", "").Replace(first); first != c.Long {
			t.Errorf("%s (-reference +command):\n%s", c.Name(), cmp.Diff(first, c.Long))
		}
		options := ""
		if c.HasAvailableLocalFlags() {
			options = "| Option | Meaning |\n|---|---|\n"
		}
		c.Flags().VisitAll(func(f *pflag.Flag) { options += optionRow(f) })
		if !strings.HasPrefix(section+"\n", options) {
			t.Errorf("%s (-reference +command):\n%s", c.Name(), cmp.Diff(section[:min(len(section), len(options))], options))
		}
	}
	if !strings.Contains(sections[""], table.String()) {
		t.Errorf("the table of commands is not\n%s", table.String())
	}
	delete(sections, "")
	for title := range sections {
		t.Errorf("there is no command %s", title)
	}
}

func optionRow(f *pflag.Flag) string {
	value, usage := pflag.UnquoteUsage(f)
	name := "`--" + strings.TrimSuffix(f.Name+" "+value, " ") + "`"
	if f.Shorthand != "" {
		name = "`-" + f.Shorthand + "`, " + name
	}
	if f.DefValue != "" && f.DefValue != "false" {
		usage += " (default " + f.DefValue + ")"
	}
	return "| " + name + " | " + usage + " |\n"
}

// TestManPages makes a manual page of each command: cobra's, with the section
// of the reference instead of the text for --help, and without the table of
// options, which cobra makes as well. The date and the version in the head are
// for internal/tools/dist to fill in.
func TestManPages(t *testing.T) {
	sections := referenceSections(t)
	root := newRoot()
	root.InitDefaultHelpCmd()
	sections[root.Name()] = root.Long + "\n\n" + sections[""][strings.LastIndex(sections[""], "\n\n"):] + "\n"
	argument := func(f *pflag.Flag) { // which cobra does not name
		value, _ := pflag.UnquoteUsage(f)
		if f.DefValue != "" {
			f.Usage += " (default " + f.DefValue + ")"
		}
		f.DefValue = strings.Trim(value, `"`)
	}
	for _, c := range append(root.Commands(), root) {
		c.Long = manText(sections[c.Name()])
		c.DisableAutoGenTag = true
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if f.NoOptDefVal == "" {
				argument(f)
			}
		})
		var page bytes.Buffer
		if err := doc.GenMan(c, &doc.GenManHeader{Date: &time.Time{}}, &page); err != nil {
			t.Fatal(err)
		}
		name := strings.ReplaceAll(c.CommandPath(), " ", "-") + ".1"
		for _, want := range []string{".TH ", c.Short, "SYNOPSIS", "DESCRIPTION", "OPTIONS", "SEE ALSO"} {
			if !strings.Contains(page.String(), want) {
				t.Errorf("%s: no %q in\n%s", name, want, &page)
			}
		}
		releaseFile(t, name, page.Bytes())
	}
}

// manText is Markdown without tables and the targets of links.
func manText(section string) string {
	var kept []string
	for line := range strings.Lines(section) {
		if !strings.HasPrefix(line, "|") {
			kept = append(kept, line)
		}
	}
	return markdownLink.ReplaceAllString(strings.Join(kept, ""), "$1")
}

// Completions and manual pages need what each command is for.
func TestTexts(t *testing.T) {
	root := newRoot()
	root.InitDefaultHelpCmd()
	for _, c := range append(root.Commands(), root) {
		if c.Short == "" || c.Long == "" || strings.HasSuffix(c.Short, ".") || !strings.HasSuffix(c.Long, ".") || c.Args == nil {
			t.Errorf("%s: %q, %q", c.Name(), c.Short, c.Long)
		}
		if c.ValidArgsFunction == nil && c != root {
			t.Errorf("%s: shells complete its arguments with names of any files", c.Name())
		}
		if c.RunE == nil {
			t.Errorf("%s does not run", c.Name())
		}
	}
}
