package main

import (
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/limpetlb/limpet/internal/testfiles"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/letsencrypt/pebble/v2/va.VAImpl.processTasks"), goleak.Cleanup(func(status int) {
		if buildDir != "" {
			_ = os.RemoveAll(buildDir)
		}
		os.Exit(status)
	}))
}

// shopFiles are a configuration with something of everything, and what it
// names.
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
	for _, c := range []struct {
		args []string
		want string // on standard error
	}{
		{nil, "Usage:\n  limpet COMMAND\n"},
		{[]string{"nope"}, "limpet: no command \"nope\"\nusage: limpet COMMAND\n"},
		{[]string{"chek"}, "limpet: no command \"chek\"; did you mean \"check\"?\nusage: limpet COMMAND\n"},
		{[]string{"check"}, "limpet: check: an argument is missing\nusage: limpet check [flags] FILE...\n"},
		{[]string{"test"}, "limpet: test: an argument is missing\n"},
		{[]string{"explain", "one"}, "limpet: explain: an argument is missing\n"},
		{[]string{"serve"}, "limpet: serve: an argument is missing\nusage: limpet serve [flags] CONFIG\n"},
		{[]string{"serve", "a", "b"}, "limpet: serve: unexpected argument \"b\"\n"},
		{[]string{"help", "serve", "b"}, "limpet: help: unexpected argument \"b\"\n"},
		{[]string{"version", "x"}, "limpet: version: unexpected argument \"x\"\n"},
		{[]string{"completion", "fisch"}, "limpet: completion: \"fisch\" is not one of bash, fish, powershell, zsh; did you mean \"fish\"?\n"},
		{[]string{"check", "--nope", "x"}, "limpet: check: no option --nope\n"},
		{[]string{"check", "--strickt", "x"}, "limpet: check: no option --strickt; did you mean \"--strict\"?\n"},
		{[]string{"check", "-nope", "x"}, "limpet: check: unknown shorthand flag: 'n' in -nope\n"},
		{[]string{"check", "x"}, "limpet: x: neither a configuration (.yaml, .yml, .json) nor a script (.lua): say which by --as\n"},
		{[]string{"check", "x.lua", "x.txt"}, "limpet: x.txt: neither a configuration "},
		{[]string{"check", "--as", "lua", "x"}, "limpet: check: invalid argument \"lua\" for \"--as\" flag: neither config nor script\n"},
		{[]string{"check", "--format", "xml", "x.lua"}, "limpet: check: invalid argument \"xml\" for \"--format\" flag: not one of text, json, github\n"},
		{[]string{"check", "--event", "nope", "x.lua"}, "limpet: check: invalid argument \"nope\" for \"--event\" flag: "},
		{[]string{"explain", "--client", "x", "c", "u"}, "limpet: explain: invalid argument \"x\" for \"--client\" flag: "},
		{[]string{"explain", "--header", "x", "c", "u"}, "limpet: explain: invalid argument \"x\" for \"--header\" flag: \"x\" has no colon\n"},
		{[]string{"explain", "c", "/no-host"}, "limpet: /no-host: no host\n"},
	} {
		if status, out, errs := invoke(t, "/nowhere", c.args...); status != misuse || out != "" || !strings.HasPrefix(errs, c.want) {
			t.Errorf("limpet %q: status %d, %q, %q, not %q", c.args, status, out, errs, c.want)
		}
	}
}

// Options had one dash before there were two.
func TestSingleDashes(t *testing.T) {
	dir := testfiles.Write(t, map[string]string{
		"doubtful.lua": "-- HTTP_REQ\navi.http.get_method()\n",
		"plain.lua":    "avi.vs.log('no heading')\n",
		"-strict":      "-- HTTP_REQ\n",
		"a.yaml":       "httpSecurity: [{name: a, match: {method: {op: is in, methods: [POST]}}, action: {respond: {status: 418}}}]\n",
	})
	warning := func(option string) string {
		return "limpet: -" + option + " is deprecated, and ends with 0.2: write --" + option + "\n"
	}
	t.Chdir(dir)
	for _, c := range []struct {
		args   []string
		status int
		errs   string
	}{
		{[]string{"check", "-strict", "doubtful.lua"}, failed, warning("strict")},
		{[]string{"check", "-strict=false", "doubtful.lua"}, ok, warning("strict")},
		{[]string{"check", "doubtful.lua", "-strict"}, failed, warning("strict")},
		{[]string{"check", "--strict", "doubtful.lua"}, failed, ""},
		{[]string{"check", "-event", "HTTP_REQ", "-strict", "plain.lua"}, ok, warning("event") + warning("strict")},
		{[]string{"check", "-event=HTTP_REQ", "plain.lua"}, ok, warning("event")},
		{[]string{"check", "--as", "script", "--", "-strict"}, ok, ""},
		{[]string{"check", "-as", "script", "-no-keys", "plain.lua", "-event", "HTTP_REQ"}, ok, warning("as") + warning("no-keys") + warning("event")},
		{[]string{"explain", "--body", "-method", "-method", "POST", "a.yaml", "http://a/"}, ok, warning("method")},
		{[]string{"explain", "--header", "check: -strict", "a.yaml", "http://a/"}, ok, ""},
		{[]string{"-help"}, ok, warning("help")},
		{[]string{"check", "-help"}, ok, warning("help")},
	} {
		if status, out, errs := invoke(t, dir, c.args...); status != c.status || errs != c.errs {
			t.Errorf("limpet %q: status %d, %q, %q, not %q", c.args, status, out, errs, c.errs)
		}
	}
	if _, out, _ := invoke(t, dir, "explain", "-method", "POST", "-client", "192.0.2.7", "a.yaml", "http://a/"); !strings.Contains(out, "418 ") || !strings.Contains(out, "192.0.2.7") {
		t.Error(out)
	}
}

// doubleDashes changes nothing but options of the command that have one dash.
func FuzzDoubleDashes(f *testing.F) {
	for _, line := range []string{"check -strict a", "explain -body -body -h -- -body", "-help", "test -v -cover=x", "check - -- -strict", "completion -nope", "check -=", "check ---strict"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.Split(line, " ")
		var warnings strings.Builder
		got := doubleDashes(newRoot(), args, &warnings)
		changed := 0
		for i, arg := range got {
			if arg == args[i] {
				continue
			}
			changed++
			if arg != "-"+args[i] || !strings.HasPrefix(args[i], "-") || strings.HasPrefix(args[i], "--") {
				t.Errorf("%q became %q", args[i], arg)
			}
		}
		if len(got) != len(args) || strings.Count(warnings.String(), "\n") < changed {
			t.Errorf("%q became %q, with warnings %q", args, got, warnings.String())
		}
	})
}
