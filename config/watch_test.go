package config

import (
	"context"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet/internal/filewatch"
	"github.com/limpetlb/limpet/internal/testfiles"
)

// A reload says in one line what has changed, or each fault in one.
func TestReloadLog(t *testing.T) {
	const text = "name: shop\nrateLimiters: [{name: few, count: 1, period: 1h}]\n" + hello
	s := build(t, map[string]string{"limpet.yaml": text}, Options{})
	path := filepath.Join(s.dir, "limpet.yaml")
	took := regexp.MustCompile(`took=\S+`)
	for _, c := range []struct {
		text string
		want []string
	}{
		{text, []string{`level=INFO msg="configuration unchanged" file=PATH took=T`}},
		{strings.Replace(text, "hello", "bye", 1), []string{`level=INFO msg="configuration changed" file=PATH changed=1 took=T`}},
		{strings.Replace(text, "count: 1", "count: 2", 1) + "process: {maxConnections: 5}\ntables: {maxEntries: 7}\n", []string{
			`level=WARN msg="configuration changed" file=PATH changed=4 fresh=[rateLimiters[0]] restart=[process.maxConnections] took=T`,
		}},
		{strings.Replace(text, "name: shop", "nam: shop", 1) + "listen: foo\n", []string{
			`level=ERROR msg="configuration not changed" file=PATH error="PATH:1:1: unknown field \"nam\"; did you mean \"name\"?"`,
			`level=ERROR msg="configuration not changed" file=PATH error="PATH:4:9: listen: address foo: missing port in address"`,
		}},
	} {
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		s.log.take("")
		if ok := s.Reload(t.Context()); ok != !strings.Contains(c.want[0], "ERROR") {
			t.Errorf("accepted: %t", ok)
		}
		var got []string
		for _, line := range s.log.take("msg=\"configuration ") {
			got = append(got, took.ReplaceAllString(strings.ReplaceAll(line, path, "PATH"), "took=T"))
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	f, err := Parse(t.Context(), "text", []byte(hello), nil)
	if err != nil {
		t.Fatal(err)
	}
	rt, err := f.Build(Options{})
	if err != nil {
		t.Fatal(err)
	}
	if rt.Reload(t.Context()) {
		t.Error("a text without a file was loaded anew")
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.log.take("")
	if s.Reload(t.Context()) || len(s.log.take("")) > 0 {
		t.Error("a reload after the end")
	}
}

// While Run watches, the runtime follows its files: the configuration, scripts,
// what it includes, and files that its patterns begin to match. What is refused
// is reported once.
func TestWatch(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		o     Options
		watch string
	}{
		"by the file":    {watch: "process: {watch: true}\n"},
		"by the program": {o: Options{Watch: true}},
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{
				"limpet.yaml":   c.watch + "include: ['more/*.yaml']\nscripts: [{file: a.lua}]\n",
				"a.lua":         "-- HTTP_REQ\navi.http.response(200, {}, 'one')\n",
				"more/one.yaml": "stringGroups: [{name: words, list: [a]}]\n",
			}
			dir := testfiles.Write(t, files)
			synctest.Test(t, func(t *testing.T) {
				followFiles(t, dir, c.o, func() {
					time.Sleep(10 * filewatch.Tick)
					synctest.Wait()
				})
			})
		})
	}
}

// followFiles is the test of one runtime; wait is for a few looks at the files.
func followFiles(t *testing.T, dir string, o Options, wait func()) {
	f, err := Load(t.Context(), filepath.Join(dir, "limpet.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	s := &site{T: t, dir: dir, log: &logLines{}}
	o.Logger = s.log.logger()
	if s.Runtime, err = f.Build(o); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	answer := func() string {
		vs, _ := s.Service("limpet")
		w := httptest.NewRecorder()
		vs.ServeHTTP(w, httptest.NewRequest("GET", "http://a/", nil))
		return w.Body.String()
	}
	follow := func() []string {
		t.Helper()
		s.log.take("")
		wait()
		return s.log.take("msg=\"configuration ")
	}
	one := func(lines []string, want string) {
		t.Helper()
		if len(lines) != 1 || !strings.Contains(lines[0], want) {
			t.Errorf("%q, not %q", lines, want)
		}
	}
	// Between Load and Run.
	write("a.lua", "-- HTTP_REQ\navi.http.response(200, {}, 'two')\n")
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { _ = s.Runtime.Run(ctx) })
	wait()
	one(s.log.take("msg=\"configuration "), "configuration changed")
	if got := answer(); got != "two" {
		t.Errorf("%q", got)
	}
	if lines := follow(); lines != nil {
		t.Errorf("nothing has changed: %q", lines)
	}
	write("a.lua", "-- HTTP_REQ\navi.http.response(200, {}, 'three')\n")
	one(follow(), "configuration changed")
	if got := answer(); got != "three" {
		t.Errorf("%q", got)
	}
	write("a.lua", "if")
	one(follow(), "configuration not changed")
	if lines := follow(); lines != nil || answer() != "three" {
		t.Errorf("told again: %q", lines)
	}
	write("a.lua", "-- HTTP_REQ\navi.http.response(200, {}, 'three')\n") // as it is in force
	if lines := follow(); lines != nil {
		t.Errorf("what is in force has changed: %q", lines)
	}
	write("a.lua", "if")
	one(follow(), "configuration not changed")
	write("a.lua", "-- HTTP_REQ\navi.http.response(200, {}, 'four')\n")
	one(follow(), "configuration changed")
	write("more/two.yaml", "stringGroups: [{name: more, list: [a]}]\n")
	one(follow(), "configuration changed")
	write("more/two.yaml", "stringGroups: [{name: more, list: [b]}]\n")
	one(follow(), "configuration changed")
	if err := os.Remove(filepath.Join(dir, "more/two.yaml")); err != nil {
		t.Fatal(err)
	}
	one(follow(), "configuration changed")
	if got := len(s.Runtime.file.doc.StringGroups); got != 1 {
		t.Errorf("%d groups", got)
	}
	if err := os.Rename(filepath.Join(dir, "a.lua"), filepath.Join(dir, "b.lua")); err != nil {
		t.Fatal(err)
	}
	one(follow(), "no such file")
	if o.Watch {
		return
	}
	write("a.lua", "-- HTTP_REQ\navi.http.response(200, {}, 'five')\n")
	write("limpet.yaml", "scripts: [{file: a.lua}]\n")
	if lines := follow(); len(lines) == 0 || answer() != "five" || !slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, "configuration changed") }) {
		t.Errorf("%q", lines)
	}
	write("a.lua", "-- HTTP_REQ\navi.http.response(200, {}, 'six')\n")
	if lines := follow(); lines != nil || answer() != "five" {
		t.Errorf("it watches although the file does not say so any more: %q", lines)
	}
}
