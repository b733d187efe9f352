package main

import (
	"os"
	"strings"
	"testing"
)

// documented is an example of the reference of the command: what a command
// prints.
func documented(t *testing.T, line string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/reference/command.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, ok := strings.Cut(string(text), "```\n$ "+line+"\n")
	if !ok {
		t.Fatalf("there is no example of %s", line)
	}
	example, _, _ = strings.Cut(example, "```")
	return example
}

func TestHelp(t *testing.T) {
	example := documented(t, "limpet help healthMonitors.interval")
	if _, out, _ := invoke(t, "/nowhere", "help", "healthMonitors.interval"); out != example {
		t.Errorf("%s\nis not the example:\n%s", out, example)
	}
	for _, c := range []struct {
		args   []string
		status int
		want   []string // parts
	}{
		{nil, ok, []string{"Run, check, test and explain", "limpet COMMAND", "  check ", "  help ", "  version "}},
		{[]string{"check"}, ok, []string{"Report all faults and warnings of", "limpet check [flags] FILE...", "--strict ", "-h, --help"}},
		{[]string{"help"}, ok, []string{"KEY is the end of a path"}},
		{[]string{"pools[0].healthMonitors[12].interval"}, ok, []string{example}},
		{[]string{"algorithm"}, ok, []string{"pools.algorithm\n", "type     one of leastConnections, roundRobin,", "example  pools: [{algorithm: "}},
		{[]string{"tables.maxTableBytes"}, ok, []string{"unit     bytes"}},
		{[]string{"requestBody"}, ok, []string{"type     mapping\n", "keys     bytes, head\n", "also     services.requestBody\n"}},
		{[]string{"interval"}, ok, []string{"pools.discoveries.interval ", "pools.healthMonitors.interval "}},
		{[]string{"name"}, ok, []string{"name\n\n", "Other keys of this name:\n", "pools.name "}},
		{[]string{"tablesWhenDown"}, ok, []string{"mapping of any names to "}},
		{[]string{"healthMonitor.interval"}, misuse, []string{"limpet: no command and no key \"healthMonitor.interval\"; did you mean \"healthMonitors.interval\"?\n"}},
		{[]string{"explan"}, misuse, []string{"did you mean \"explain\"?"}},
		{[]string{"."}, misuse, []string{"no key \".\"\n"}},
		{[]string{""}, misuse, []string{"no key \"\"\n"}},
	} {
		status, out, errs := invoke(t, "/nowhere", append([]string{"help"}, c.args...)...)
		if status != c.status || (out == "") != (status == misuse) || (errs == "") != (status == ok) {
			t.Errorf("help %q: status %d, %q", c.args, status, errs)
		}
		for _, part := range c.want {
			if !strings.Contains(out+errs, part) {
				t.Errorf("help %q: no\n%s\nin\n%s%s", c.args, part, out, errs)
			}
		}
	}
	for _, args := range [][]string{{"--help"}, {"-h"}, {"check", "-h"}, {"help", "--help"}} {
		if status, out, errs := invoke(t, "/nowhere", args...); status != ok || errs != "" || !strings.Contains(out, "Usage:\n  limpet ") {
			t.Errorf("%q: status %d, %q, %q", args, status, out, errs)
		}
	}
}
