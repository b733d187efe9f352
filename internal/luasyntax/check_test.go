package luasyntax_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet/internal/cputime"
	"github.com/limpetlb/limpet/internal/luasyntax"
	"github.com/limpetlb/limpet/internal/testrace"
)

func repeat(s string, n int) string { return strings.Repeat(s, n) }

// faults are sources with the exact text of their fault; "" is none.
var faults = []struct{ name, source, want string }{
	{"empty", "", ""},
	{"only blanks", " \t\v\f\r\n", ""},
	{"only a comment", "-- x", ""},
	{"a dangling if", "local a = 1\nif a then\n  f()\n", "4: 'end' expected (to close 'if' at line 2) near '<eof>'"},
	{"end missing on the same line", "if a then f()", "1: 'end' expected near '<eof>'"},
	{"then missing", "if a f() end", "1: 'then' expected near 'f'"},
	{"do missing", "while a f() end", "1: 'do' expected near 'f'"},
	{"until missing", "repeat\nf()\nend", "3: 'until' expected (to close 'repeat' at line 1) near 'end'"},
	{"end too many", "f() end", "1: '<eof>' expected near 'end'"},
	{"else alone", "else", "1: '<eof>' expected near 'else'"},
	{"a stray word", "f()\nstray\ng()", "3: '=' expected near 'g'"},
	{"a call is no target", "f() = 1", "1: unexpected symbol near '='"},
	{"a call among targets", "a, f() = 1", "1: syntax error near '='"},
	{"parentheses are no target", "(a) = 1", "1: syntax error near '='"},
	{"an expression is no statement", "1 + 2", "1: unexpected symbol near '1'"},
	{"operand missing", "x = 1 +", "1: unexpected symbol near '<eof>'"},
	{"parenthesis open", "x = (1\n+ 2", "2: ')' expected (to close '(' at line 1) near '<eof>'"},
	{"brace open", "x = {1,\n2 3}", "2: '}' expected (to close '{' at line 1) near '3'"},
	{"bracket open", "x = a[1", "1: ']' expected near '<eof>'"},
	{"name expected", "local 1", "1: '<name>' expected near '1'"},
	{"keyword as a field", "x = a.end", "1: '<name>' expected near 'end'"},
	{"method without arguments", "a:b = 1", "1: function arguments expected near '='"},
	{"call on the next line", "f\n(g)", "2: ambiguous syntax (function call x new statement) near '('"},
	{"call on the next line behind a table key", "x = {f\n(g)}", ""},
	{"for without in", "for a b", "1: '=' or 'in' expected near 'b'"},
	{"for with one bound", "for i = 1 do end", "1: ',' expected near 'do'"},
	{"bad parameter", "function f(1) end", "1: <name> or '...' expected near '1'"},
	{"parameter after ellipsis", "function f(..., a) end", "1: ')' expected near ','"},
	{"ellipsis outside", "function f() return ... end", "1: cannot use '...' outside a vararg function near '...'"},
	{"ellipsis in main", "return ...", ""},
	{"break outside", "break", "1: no loop to break near '<eof>'"},
	{"break in a function in a loop", "while a do function f() break end end", "1: no loop to break near 'end'"},
	{"break not last", "while a do break f() end", "1: 'end' expected near 'f'"},
	{"return not last", "return 1 f()", "1: '<eof>' expected near 'f'"},
	{"return and semicolon", "return;", ""},
	{"two semicolons", "f();;", "1: unexpected symbol near ';'"},
	{"goto is a name", "goto = 1 x = goto", ""},
	{"goto statement", "goto done", "1: '=' expected near 'done'"},
	{"label", "::done::", "1: unexpected symbol near ':'"},
	{"integer division", "x = 7 // 2", "1: unexpected symbol near '/'"},
	{"bit operator", "x = 7 & 2", "1: unexpected symbol near '&'"},
	{"not equal in C", "x = a != b", "1: unexpected symbol near '!'"},
	{"a lone tilde", "x = a ~ b", "1: unexpected symbol near '~'"},
	{"a first line with a hash", "#!/usr/bin/lua\nf()", "1: unexpected symbol near '#'"},
	{"a bell", "x = \a", "1: unexpected symbol near 'char(7)'"},
	{"a delete", "\x7f", "1: unexpected symbol near 'char(127)'"},
	{"an escape byte", " \x1bLua", "1: unexpected symbol near 'char(27)'"},
	{"a byte over 127", "x = \xe9", "1: unexpected symbol near '\xe9'"},
	{"a zero byte", "x = \x00", "1: unexpected symbol"},
	{"a zero byte behind a point", "x = a .\x00 b", ""},
	{"a zero byte behind a number", "x = 1\x00", ""},

	{"string open at the end", "x = 'abc", "1: unfinished string near '<eof>'"},
	{"string open at a line's end", "x = \"a\\065bc\nd\"", "1: unfinished string near '\"aAbc'"},
	{"string open behind a backslash", "x = 'abc\\", "1: unfinished string near '<eof>'"},
	{"string over lines", "x = 'a\\\nb\\\r\nc' 1", "3: unexpected symbol near '1'"},
	{"unknown escapes", `x = "wow\! \( \x \z"`, ""},
	{"escape too large", `x = "ab\300c"`, "1: escape sequence too large near '\"ab'"},
	{"escape of 255", `x = "\255\0000"`, ""},
	{"string as token", "x = 1 'a\\nb'", "1: unexpected symbol near ''a\nb''"},
	{"string with a zero as token", "x = 1 'a\\0b'", "1: unexpected symbol near ''a'"},
	{"long string as token", "x = 1 [==[\r\na\rb]==]", "3: unexpected symbol near '[==[a\nb]==]'"},
	{"long string open", "x = [[a\nb", "2: unfinished long string near '<eof>'"},
	{"long string of another level", "x = [=[a]]", "1: unfinished long string near '<eof>'"},
	{"long comment open", "--[==[a\n]]\n", "3: unfinished long comment near '<eof>'"},
	{"no long comment", "--[==a\nf()", ""},
	{"nested long string", "x = [[a [[b]] c]]", "1: nesting of [[...]] is deprecated near '['"},
	{"nested long comment", "--[[\n[[\n]]", "2: nesting of [[...]] is deprecated near '['"},
	{"nested with levels", "x = [=[ [=[ [[ ]=]", ""},
	{"delimiter", "x = [==", "1: invalid long string delimiter near '[=='"},
	{"line breaks of all kinds", "\n\r\r\n\r\n\n\n\r\rx", "7: '=' expected near '<eof>'"},

	{"number and letters", "x = 3x", "1: malformed number near '3x'"},
	{"two points", "x = 1..2", "1: malformed number near '1..2'"},
	{"exponent missing", "x = 1e+", "1: malformed number near '1e+'"},
	{"hexadecimal digits missing", "x = 0x", "1: malformed number near '0x'"},
	{"hexadecimal letter", "x = 0xfg", "1: malformed number near '0xfg'"},
	{"hexadecimal fraction", "x = 0x1.8", "1: unexpected symbol near '.8'"},
	{"hexadecimal exponent", "x = 0x1p4", ""},
	{"hexadecimal exponent missing", "x = 0x1p", "1: malformed number near '0x1p'"},
	{"hexadecimal exponent malformed", "x = 0x1p4f", "1: malformed number near '0x1p4f'"},
	{"underscore", "x = 1_000", "1: malformed number near '1_000'"},
	{"points alone", "x = .e1", "1: unexpected symbol near '.'"},
	{"numbers", "x = {0, 1., .5, 5e5, 5E-5, 0X10, 0xfF, 3.e+2, 007}", ""},

	{"200 locals", repeat("local a;", 200), ""},
	{"201 locals", "\n" + repeat("local a;", 201), "2: main function has more than 200 local variables"},
	{"201 locals of a function", "x = 1\nfunction f()" + repeat("local a;", 201) + "end", "2: function at line 2 has more than 200 local variables"},
	{"hidden locals", repeat("local a;", 197) + "for i = 1, 2 do end", "1: main function has more than 200 local variables"},
	{"the local arg", "function f(" + repeat("a,", 200) + "...) end", "1: function at line 1 has more than 200 local variables"},
	{"60 upvalues", upvalues(60), ""},
	{"61 upvalues", upvalues(61), "3: function at line 3 has more than 60 upvalues"},
	{"198 levels", "x = " + repeat("-", 1) + repeat(" -", 196) + "1", ""},
	{"199 levels", "x = " + repeat("-", 1) + repeat(" -", 197) + "1", "1: chunk has too many syntax levels"},
	{"many parentheses", "x = " + repeat("(", 5000), "1: chunk has too many syntax levels"},
	{"many braces", "x = " + repeat("{", 5000), "1: chunk has too many syntax levels"},
	{"many blocks", repeat("do ", 5000), "1: chunk has too many syntax levels"},
	{"many functions", "x = " + repeat("function() return ", 3000), "1: chunk has too many syntax levels"},
	{"many powers", "x = 1" + repeat("^1", 5000), "1: chunk has too many syntax levels"},
	{"many sums", "x = 1" + repeat("+1", 20000), ""},
	{"many calls", "f" + repeat("()", 20000), ""},
	{"many branches", "if a then " + repeat("elseif a then ", 4000) + "end", ""},
	{"199 targets", repeat("a,", 198) + "a = 1", ""},
	{"200 targets", repeat("a,", 199) + "a = 1", "1: main function has more than 198 variables in assignment"},
	{"many items", "x = {" + repeat("1,", 10000) + "}", ""},
}

// upvalues returns a function at line 3 that uses n variables of its parent.
func upvalues(n int) string {
	var names []string
	for i := range n {
		names = append(names, fmt.Sprint("v", i))
	}
	return "local " + strings.Join(names, ",") + "\n\nfunction f() return {" + strings.Join(names, ",") + "} end"
}

func TestCheck(t *testing.T) {
	for _, tt := range faults {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, verdict(tt.source, luasyntax.Limits{})); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// TestCompilerAgrees compares the table and the default limits with luac.
func TestCompilerAgrees(t *testing.T) {
	luac := requireReference(t, "luac5.1")
	file := filepath.Join(t.TempDir(), "x")
	for _, tt := range faults {
		if strings.HasPrefix(tt.source, "#") {
			continue // luac skips this line of a file
		}
		if err := os.WriteFile(file, []byte(tt.source), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), luac, "-p", file).CombinedOutput()
		if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		got := strings.TrimSuffix(string(out), "\n")
		if _, after, ok := strings.Cut(got, file+":"); ok {
			got = after
		}
		if got != tt.want {
			t.Errorf("%s: luac says %q, the table %q", tt.name, got, tt.want)
		}
	}
}

func TestSeedsAreAccepted(t *testing.T) {
	for _, s := range seeds(t) {
		if v := verdict(s, luasyntax.Limits{}); v != "" {
			t.Errorf("%s\n%s", s, v)
		}
	}
}

func TestLimitsAreParameters(t *testing.T) {
	tests := []struct {
		name, source string
		line         int
		limits       luasyntax.Limits
		want         *luasyntax.Error
	}{
		{"bytes reached", "f(1)", 1, luasyntax.Limits{Bytes: 4}, nil},
		{"bytes exceeded", "f(12)", 7, luasyntax.Limits{Bytes: 4}, &luasyntax.Error{Line: 7, Message: "chunk has more than 4 bytes"}},
		{"bytes by default", repeat(" ", 65537), 1, luasyntax.Limits{}, &luasyntax.Error{Line: 1, Message: "chunk has more than 65536 bytes"}},
		{"negative is default", repeat(" ", 65536), 1, luasyntax.Limits{Bytes: -1, Depth: -1, Locals: -1, Upvalues: -1, Constants: -1}, nil},
		{"depth", "x = 1", 1, luasyntax.Limits{Depth: 2}, &luasyntax.Error{Line: 1, Message: "chunk has too many syntax levels"}},
		{"depth reached", "x = 1", 1, luasyntax.Limits{Depth: 3}, nil},
		{"locals", "local a, b, c", 1, luasyntax.Limits{Locals: 2}, &luasyntax.Error{Line: 1, Message: "main function has more than 2 local variables"}},
		{"upvalues", upvalues(3), 10, luasyntax.Limits{Upvalues: 2}, &luasyntax.Error{Line: 12, Message: "function at line 12 has more than 2 upvalues"}},
		{"upvalues of the outermost first", "local a, b, c\nfunction f()\nreturn function()\nreturn a, b, c end end", 1, luasyntax.Limits{Upvalues: 2}, &luasyntax.Error{Line: 4, Message: "function at line 2 has more than 2 upvalues"}},
		{"constants", "f(1, 2, 3)", 1, luasyntax.Limits{Constants: 3}, &luasyntax.Error{Line: 1, Message: "constant table overflow"}},
		{"constants shared", "f(1, 1, 'f')", 1, luasyntax.Limits{Constants: 2}, nil},
		{"functions", repeat("do local function f() end end ", 3), 1, luasyntax.Limits{Constants: 2}, &luasyntax.Error{Line: 1, Message: "constant table overflow"}},
		{"locals ever", repeat("do local "+repeat("a,", 199)+"a end ", 164), 1, luasyntax.Limits{Bytes: 1 << 20}, &luasyntax.Error{Line: 1, Message: "too many local variables"}},
		{"first line", "\nx", 41, luasyntax.Limits{}, &luasyntax.Error{Line: 42, Near: "<eof>", Message: "'=' expected"}},
		{"opened before", "do\n", 41, luasyntax.Limits{}, &luasyntax.Error{Line: 42, Near: "<eof>", Message: "'end' expected (to close 'do' at line 41)"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got *luasyntax.Error
			if err := luasyntax.Check(tt.source, tt.line, tt.limits); err != nil && !errors.As(err, &got) {
				t.Fatalf("%T: %v", err, err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// hostile are sources of up to the default size, each the worst of its kind.
func hostile() map[string]string {
	fit := func(before, body, after string) string {
		return before + repeat(body, (65536-len(before)-len(after))/len(body)) + after
	}
	distinct := func(format string) string {
		var b strings.Builder
		for i := 0; b.Len() < 65500; i++ {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	nest := repeat("local a,b,c,d,e;return function()", 98)
	return map[string]string{
		"not":                 fit("x=", "not ", "1"),
		"parentheses":         fit("x=", "(", ""),
		"braces":              fit("x=", "{", ""),
		"blocks":              fit("", "do ", ""),
		"brackets":            fit("x=", "a[", ""),
		"long brackets":       fit("x=[==[", "]=", "]==]"),
		"opening brackets":    fit("x=[==[", "[=", "]==]"),
		"comments":            fit("", "--[=\n", ""),
		"newlines":            fit("", "\n", ""),
		"carriage returns":    fit("x=[[", "\r", "]]"),
		"escapes":             fit("x='", `\65`, "'"),
		"strings":             fit("", `f"\a"`, ""),
		"digits":              fit("x=", "9", ""),
		"hexadecimal digits":  fit("x=0x", "f", ""),
		"one name":            fit("", "a", "=1"),
		"names":               distinct("a%x=1 "),
		"numbers":             distinct("x=%d "),
		"constants":           "x={" + distinct("'%x',") + "}",
		"functions":           fit("", "function a()end ", ""),
		"deep names":          fit(nest, "a=b ", repeat("end ", 98)),
		"deep globals":        fit(nest, "g=h ", repeat("end ", 98)),
		"wide assignments":    fit("local a;", repeat("a.a,", 100)+repeat("a,", 97)+"a=1 ", ""),
		"locals":              fit("", "do local "+repeat("a,", 199)+"a end ", ""),
		"sums":                fit("x=1", "+a", ""),
		"avi.* script":        fit("", "if avi.http.get_header('x') == nil then\n  avi.vs.log(\"none\")\nend\n", ""),
		"upvalues everywhere": fit(upvalues(60), "\nfunction f()return v0,v29,v59 end", ""),
	}
}

// TestHostileSourcesAreFast repeats a run that was too slow: what other
// programs do to the caches may be to blame, but not every time.
func TestHostileSourcesAreFast(t *testing.T) {
	budget := 5 * time.Millisecond
	if testrace.Enabled {
		budget *= 20
	}
	for name, source := range hostile() {
		best := cputime.Least(200, budget, func() { luasyntax.Check(source, 1, luasyntax.Limits{Bytes: 1 << 17}) })
		t.Logf("%-20s %7d bytes %v", name, len(source), best)
		if best > budget {
			t.Errorf("%s: %v for %d bytes", name, best, len(source))
		}
	}
}

func TestLongSourcesAreRefusedUnread(t *testing.T) {
	source := repeat("x=1 ", 1<<22)
	if n := testing.AllocsPerRun(10, func() { luasyntax.Check(source, 1, luasyntax.Limits{}) }); n > 5 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkCheck(b *testing.B) {
	for _, name := range []string{"avi.* script", "names", "constants", "strings", "sums", "not"} {
		source := hostile()[name]
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(source)))
			for b.Loop() {
				luasyntax.Check(source, 1, luasyntax.Limits{})
			}
		})
	}
}
