package main

import (
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/limpetlb/limpet/internal/testfiles"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(status int) {
		if buildDir != "" {
			_ = os.RemoveAll(buildDir)
		}
		os.Exit(status)
	}))
}

// shopFiles are a configuration with something of everything, and what it names.
var shopFiles = testfiles.MustRead("../../config/testdata/shop/*")

// invoke runs a command. The directory's name is DIR in what it prints.
func invoke(t *testing.T, dir string, args ...string) (status int, out, errs string) {
	t.Helper()
	for i, a := range args {
		args[i] = strings.ReplaceAll(a, "DIR", dir)
	}
	var o, e strings.Builder
	status = run(t.Context(), args, &o, &e)
	return status, strings.ReplaceAll(o.String(), dir, "DIR"), strings.ReplaceAll(e.String(), dir, "DIR")
}

func TestMisuse(t *testing.T) {
	for _, args := range [][]string{
		{}, {"nope"}, {"check"}, {"test"}, {"explain", "one"}, {"serve"}, {"serve", "a", "b"},
		{"check", "-nope", "x"}, {"check", "-event", "nope", "x.lua"}, {"check", "x"}, {"check", "x.lua", "x.txt"},
		{"check", "-as", "lua", "x"}, {"check", "-format", "xml", "x.lua"}, {"explain", "-client", "x", "c", "u"}, {"explain", "-header", "x", "c", "u"},
		{"explain", "c", "/no-host"},
	} {
		if status, out, errs := invoke(t, "/nowhere", args...); status != misuse || out != "" || errs == "" {
			t.Errorf("limpet %q: status %d, %q, %q", args, status, out, errs)
		}
	}
	for _, args := range [][]string{{"help"}, {"check", "-h"}, {"serve", "-h"}} {
		if status, out, errs := invoke(t, "/nowhere", args...); status != ok || !strings.Contains(out+errs, "limpet check") && !strings.Contains(out+errs, "limpet serve") {
			t.Errorf("limpet %q: status %d, %q, %q", args, status, out, errs)
		}
	}
}
