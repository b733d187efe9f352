package config

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/policy"
)

// allocated returns how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func parseText(t *testing.T, text string) error {
	t.Helper()
	_, err := Parse(t.Context(), "bomb", []byte(text), nil)
	return err
}

// nested returns levels of mappings of which each merges the one before nine
// times, which was exponential: 731 bytes kept the command busy for ever, and
// SIGTERM did not end it.
func nested(levels int) string {
	var b strings.Builder
	b.WriteString("a: &a0 {name: x}\n")
	for i := range levels {
		fmt.Fprintf(&b, "b%d: &a%d {<<: [%s]}\n", i, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i), 9), ", "))
	}
	return b.String()
}

func TestNestedMerges(t *testing.T) {
	text := nested(13)
	if n := len(text); n < 700 || n > 1000 {
		t.Fatalf("%d bytes", n)
	}
	d := newDecoder(t.Context(), &fsFiles{})
	src := &source{name: "bomb"}
	if err := d.tree.parse(src, []byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := d.tree.check(src); err != nil {
		t.Fatal(err)
	}
	if d.tree.copied > 13*20 {
		t.Errorf("%d keys looked at", d.tree.copied)
	}
	if all, _ := d.rootEntries(src); len(all) != 14 || len(d.tree.entries[all[13].value]) != 1 {
		t.Error("the keys of merged mappings are wrong")
	}
}

// Files that were small and made the command use all memory or time there is.
// Each is refused with a place, and what reading it allocates is in proportion
// to its size.
func TestBombs(t *testing.T) {
	repeat := strings.Repeat
	laughs := "a: &a0 [x, x, x, x, x, x, x, x, x]\n"
	for i := range 9 {
		laughs += fmt.Sprintf("b%d: &a%d [%s*a%d]\n", i, i+1, repeat(fmt.Sprintf("*a%d, ", i), 8), i)
	}
	wide := "a: &a\n"
	for i := range 1000 {
		wide += fmt.Sprintf("  k%d: 1\n", i)
	}
	for i := range 2000 {
		wide += fmt.Sprintf("b%d: {<<: *a}\n", i)
	}
	for _, c := range []struct {
		name, text string
		want       string // in the error
	}{
		{"brackets", repeat("[", 100_000) + repeat("]", 100_000), "bomb:1:65: deeper than 64 levels"}, // 6 GB
		{"braces", repeat("{a: ", 50_000), "deeper than 64 levels"},
		{"dashes", repeat("- ", 100_000), "deeper than 64 levels"},
		{"question marks", repeat("? ", 100_000), "deeper than 64 levels"},
		{"deep, below what the parser refuses", blocks(40) + repeat(" ", 50) + repeat("[", 40) + repeat("]", 40), "deeper than 64 levels"},
		{"deep by an alias", "a: &a " + repeat("[", 40) + repeat("]", 40) + "\nb: " + repeat("[", 40) + "*a" + repeat("]", 40), "bomb:2:44: b" + repeat("[0]", 40) + ": deeper than 64 levels"},
		{"laughs", laughs, "more than 1000000 values, aliases included"},
		{"a long list of one alias", "a: &a [x]\nb: [" + repeat("*a, ", 100_000) + "]", "bomb:1:1: aliases make 200006 values of 6, more than 100 times as many"},
		{"alias of itself", "pools: &a [*a]", "bomb:1:12: pools[0]: an alias of itself"},
		{"alias of what it stands in", "pools: [&a {name: *a}]", "bomb:1:19: pools[0].name: an alias of itself"},
		{"merged into itself", "pools: [&a {<<: *a}]", "bomb:1:17: pools[0].<<: an alias of itself"},
		{"key of itself", "? &a [*a]\n: b", "an alias of itself"},
		{"wide merges", wide, "more than 100000 merged keys"},
		{"tag directives", repeat("%TAG !e! tag:x\n", 1000) + "---\na: b", "too many tag directives"},
		{"no UTF-8", "name: \xff", "bomb:1:7: "},
		{"UTF-16", "\xff\xfen\x00", "bomb:1:1: "},
		{"control character", "name: a\nlisten: é\x01", "bomb:2:10: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			var err error
			n := allocated(func() { err = parseText(t, c.text) })
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%.300v, not %s", err, c.want)
			}
			if most := uint64(64<<20 + 100*len(c.text)); n > most {
				t.Errorf("%d bytes allocated for a file of %d", n, len(c.text))
			}
		})
	}
}

// blocks are nested mappings in blocks.
func blocks(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

// 20,000 unknown keys took seconds and 1.6 GB: the work grew with their square.
func TestUnknownKeys(t *testing.T) {
	keys := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "key%d: 1\n", i)
		}
		return b.String()
	}
	var few, many uint64
	few = allocated(func() { _ = parseText(t, keys(2_000)) })
	var err error
	many = allocated(func() { err = parseText(t, keys(20_000)) })
	if many > 15*few {
		t.Errorf("%d bytes for 2,000 keys, %d for 20,000", few, many)
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 101 || lines[0] != `bomb:1:1: unknown field "key0"` || lines[100] != "and 19900 more" {
		t.Errorf("%d lines, the last is %q", len(lines), lines[len(lines)-1])
	}
	var first *Error
	if !errors.As(err, &first) || first.Line != 1 || first.File != "bomb" {
		t.Errorf("%#v", first)
	}
}

// A byte order mark was part of the first key.
func TestByteOrderMark(t *testing.T) {
	if err := parseText(t, "\ufeffhttpSecurity: [{name: a, action: close}]"); err != nil {
		t.Error(err)
	}
	if err := parseText(t, "%YAML 1.2\n---\nhttpSecurity: [{name: a, action: close}]"); err != nil {
		t.Error(err)
	}
}

// A load ends with its context, wherever it is.
func TestLoadEnds(t *testing.T) {
	ctx, stop := context.WithCancelCause(t.Context())
	stop(errors.New("enough"))
	if _, err := Parse(ctx, "text", []byte("httpSecurity: [{name: a, action: close}]"), nil); err == nil || err.Error() != "enough" {
		t.Error(err)
	}
	text := []byte("httpSecurity: [" + strings.Repeat("{name: a, action: close}, ", 5_000) + "]")
	for checks := range 30 {
		ctx := &countdown{Context: t.Context(), left: checks}
		if _, err := Parse(ctx, "text", text, nil); ctx.left <= 0 && !errors.Is(err, context.Canceled) {
			t.Errorf("after %d looks at the context: %.100v", checks, err)
		}
	}
}

// countdown is a context that ends after so many looks at it.
type countdown struct {
	context.Context
	left int
}

func (c *countdown) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// FuzzParse looks for texts that make Parse panic, or that it accepts and then
// cannot make services of.
func FuzzParse(f *testing.F) {
	f.Add([]byte(shop))
	f.Add([]byte(strings.Replace(several, ", tls: {certificates: [{certificate: shop.pem, key: shop.key}, {certificate: blog.pem, key: blog.key}]}", "", 1)))
	for _, text := range []string{
		"services: [{name: a, hosts: [b], httpSecurity: [{name: a, action: close}]}]\nlisteners: [{name: a, address: ':1', connections: {max: 1}}]\nstores: [{name: a}]",
		"", "{", "a: &a [*a]", nested(3), "listeners: [{}]", "pools: [{name: web, servers: [{address: 10.0.0.1:80}]}]", "<<: [{name: a}]",
		"name: {env: HOME}", "name: {file: a}", "include: [b, '*']", "? [a]\n: b\n", "httpSecurity: [{name: a, action: {respond: {status: 403}}}]",
		"stringGroups: [{map: {<<: {a: b}}}]", "persistence: {httpCookie: {keys: [{id: a, secret: eA==}]}}\n", "\ufeff%YAML 1.2\n---\n--- a\n", "ipGroups: [{name: a, entries: [1.2.3.4]}]",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		file, err := Parse(t.Context(), "fuzz", text, nil)
		if err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if !strings.HasPrefix(line, "fuzz:") && !strings.HasPrefix(line, "and ") {
					t.Errorf("no place in %q", line)
				}
			}
			return
		}
		rt, err := file.Build(Options{Edit: func(_ string, c *limpet.Config) {
			complete(c)
			if idle(c) != nil {
				c.HTTPSecurity = []policy.SecurityRule{{Name: "all", Action: policy.Respond{Status: 404}}}
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := rt.Update(file); err != nil {
			t.Fatal(err)
		}
	})
}
