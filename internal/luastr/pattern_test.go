package luastr

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/limpetlb/limpet/internal/cputime"
	"github.com/limpetlb/limpet/internal/testrace"
)

// matchAll returns what string.match would, as text.
func matchAll(subject, pattern string, init int) (string, error) {
	var m Matcher
	m.Init(subject, pattern, nil)
	start, _, err := m.Match(init)
	if err != nil || start < 0 {
		return "nil", err
	}
	var out []string
	for i := range max(1, m.NumCaptures()) {
		text, position, isPosition, err := m.Capture(i)
		if err != nil {
			return "nil", err
		}
		if isPosition {
			text = fmt.Sprint("@", position)
		}
		out = append(out, text)
	}
	return strings.Join(out, ","), nil
}

func TestMatch(t *testing.T) {
	tests := []struct {
		subject, pattern, want string
	}{
		{"hello world", "o w", "o w"},
		{"hello", "l+", "ll"},
		{"hello", "xyz", "nil"},
		{"hello", "^ell", "nil"},
		{"hello", "lo$", "lo"},
		{"key = value", "(%w+)%s*=%s*(%w+)", "key,value"},
		{"  trim  ", "^%s*(.-)%s*$", "trim"},
		{"f(a(b)c)d", "%b()", "(a(b)c)"},
		{"((a)", "%b()", "(a)"},
		{"((a", "%b()", "nil"},
		{"THE (quick) fox", "%f[%a]%l+%f[%A]", "quick"},
		{"hello", "()ll()", "@3,@5"},
		{"say \"it's\" so", "([\"'])(.-)%1", "\",it's"},
		{"a.b-c!", "[^%w-_.~]", "!"},
		{"a]b", "[]]", "]"},
		{"a-b", "[a-]+", "a-"},
		{"a%b", "%%", "%"},
		{"ab\x00c", "%z", "\x00"},
		{"ab\x00c", "b\x00c", "b\x00c"},
		{"\xc3\xa9t\xc3\xa9", "%a+", "t"},
		{"\xff", "%W", "\xff"},
		{"0x1F", "^0[xX](%x+)$", "1F"},
		{"aXb", "%u", "X"},
		{"a b", "%p", "nil"},
		{"abc", "", ""},
		{"", ".-", ""},
		{"a*b", "*b", "*b"},
		{"a^b$c", "a^b$c", "a^b$c"},
		{"aaa", "a-$", "aaa"},
		{"aaab", "^(a-)(a*)b", ",aaa"},
		{"abab", "(a)(b)%1%2", "a,b"},
		{"ac", "ab?c", "ac"},
		{"x(y", "(%()y", "("},
	}
	for _, tt := range tests {
		t.Run(tt.pattern, func(t *testing.T) {
			got, err := matchAll(tt.subject, tt.pattern, 0)
			if got != tt.want || err != nil {
				t.Errorf("match(%q, %q) = %q, %v, want %q", tt.subject, tt.pattern, got, err, tt.want)
			}
		})
	}
}

func TestMatchInit(t *testing.T) {
	for _, tt := range []struct {
		init int
		want string
	}{{-5, "@1"}, {0, "@1"}, {1, "@2"}, {3, "@4"}, {99, "@4"}} {
		if got, err := matchAll("aaa", "()", tt.init); got != tt.want || err != nil {
			t.Errorf("from %d: %s, %v, want %s", tt.init, got, err, tt.want)
		}
		if got, err := matchAll("aaa", "^()", tt.init); got != tt.want || err != nil {
			t.Errorf("anchored from %d: %s, %v, want %s", tt.init, got, err, tt.want)
		}
	}
}

func TestPatternErrors(t *testing.T) {
	tests := []struct{ pattern, want string }{
		{"%", "malformed pattern (ends with '%')"},
		{"a%", "malformed pattern (ends with '%')"},
		{"[", "malformed pattern (missing ']')"},
		{"[^", "malformed pattern (missing ']')"},
		{"[]", "malformed pattern (missing ']')"},
		{"[^]", "malformed pattern (missing ']')"},
		{"[a", "malformed pattern (missing ']')"},
		{"[a%", "malformed pattern (missing ']')"},
		{"[a%]", "malformed pattern (missing ']')"},
		{"%f[a", "malformed pattern (missing ']')"},
		{"%f", "missing '[' after '%f' in pattern"},
		{"%fa", "missing '[' after '%f' in pattern"},
		{"%b", "unbalanced pattern"},
		{"%b(", "unbalanced pattern"},
		{"a)", "invalid pattern capture"},
		{"(a", "unfinished capture"},
		{"%0", "invalid capture index"},
		{"%1", "invalid capture index"},
		{"(%1)", "invalid capture index"},
		{"(a)%2", "invalid capture index"},
		{strings.Repeat("()", 33), "too many captures"},
		{strings.Repeat("(", 33), "too many captures"},
		{strings.Repeat("a?", 30) + strings.Repeat("(", 33), "too many captures"},
		{strings.Repeat("x-", MaxDepth+1) + "b", "pattern too complex"},
	}
	for _, tt := range tests {
		t.Run(tt.pattern, func(t *testing.T) {
			_, err := matchAll("aaa", tt.pattern, 0)
			var malformed PatternError
			if err == nil || err.Error() != tt.want || !errors.As(err, &malformed) && err != ErrTooComplex {
				t.Errorf("error %v, want %s", err, tt.want)
			}
		})
	}
}

func TestMaximaAreAllowed(t *testing.T) {
	if got, err := matchAll("aaa", strings.Repeat("()", MaxCaptures), 0); err != nil || strings.Count(got, "@1") != MaxCaptures {
		t.Errorf("%d captures: %s, %v", MaxCaptures, got, err)
	}
	if _, err := matchAll(strings.Repeat("a", MaxDepth), strings.Repeat("a*", MaxDepth-1)+"$", 0); err != nil {
		t.Errorf("%d repetitions: %v", MaxDepth-1, err)
	}
	// Loops do not count as depth, however long they run.
	if _, err := matchAll(strings.Repeat("a", 1<<20), "^a-b?a*c", 0); err != ErrSteps && err != nil {
		t.Errorf("a long subject: %v", err)
	}
}

func TestFindPlainShortcut(t *testing.T) {
	var m Matcher
	m.Init("a)b]c", ")b]", nil)
	if start, end, err := m.Find(0); start != 1 || end != 4 || err != nil {
		t.Errorf("find = %d, %d, %v, want 1, 4", start, end, err)
	}
	if n := m.NumCaptures(); n != 0 {
		t.Errorf("%d captures of a plain find", n)
	}
	m.Init("a)b]c", ")b]", nil)
	if _, _, err := m.Match(0); err != errNoOpenCapture {
		t.Errorf("match: %v, want %v", err, errNoOpenCapture)
	}
}

func TestReuse(t *testing.T) {
	var m Matcher
	if start, end, err := m.Match(0); start != -1 || end != -1 || err != ErrSteps {
		t.Errorf("zero Matcher: %d, %d, %v, want no steps", start, end, err)
	}
	m.Init("aab", "(a*)()b", nil)
	if start, _, _ := m.Match(0); start != 0 || m.NumCaptures() != 2 {
		t.Fatalf("start %d, %d captures", start, m.NumCaptures())
	}
	m.Init("xyz", "[a-c]", nil)
	if start, _, _ := m.Match(0); start != -1 || m.NumCaptures() != 0 {
		t.Errorf("start %d, %d captures after reuse, want no match", start, m.NumCaptures())
	}
	if _, _, _, err := m.Capture(0); err != errCaptureIndex {
		t.Errorf("capture without a match: %v", err)
	}
	m.Init("xbz", "[a-c]", nil)
	if start, _, _ := m.Match(0); start != 1 {
		t.Errorf("start %d, want 1", start)
	}
}

func TestNext(t *testing.T) {
	tests := []struct {
		subject, pattern string
		want             []string
	}{
		{"one two  three", "%a+", []string{"one", "two", "three"}},
		{"abc", "", []string{"", "", "", ""}},
		{"abc", "x*", []string{"", "", "", ""}},
		{"aab", "a*", []string{"aa", "", ""}},
		{"^a^a", "^a", []string{"^a", "^a"}}, // not an anchor here
		{"", ".", nil},
		{"k1=v1;k2=v2", "%w+=(%w+)", []string{"k1=v1", "k2=v2"}},
	}
	for _, tt := range tests {
		var m Matcher
		m.Init(tt.subject, tt.pattern, nil)
		var got []string
		for {
			start, end, err := m.Next()
			if err != nil {
				t.Fatal(err)
			}
			if start < 0 {
				break
			}
			got = append(got, tt.subject[start:end])
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("gmatch(%q, %q) (-want +got)\n%s", tt.subject, tt.pattern, diff)
		}
		if start, _, err := m.Next(); start != -1 || err != nil {
			t.Errorf("after the end: %d, %v", start, err)
		}
	}
}

// TestAgainstReference tries patterns with more repetitions than an interpreter
// without limits would survive, over a tiny alphabet, where remembered failures
// matter most.
func TestAgainstReference(t *testing.T) {
	item := rapid.SampledFrom([]string{"a", "b", "a", ".", "%a", "[ab]", "[^a]", "(", ")", "()", "%1", "%bab", "%f[a]", "$", "c"})
	suffix := rapid.SampledFrom([]string{"", "", "*", "+", "-", "?"})
	rapid.Check(t, func(t *rapid.T) {
		for range 50 {
			var p strings.Builder
			for range rapid.IntRange(0, 9).Draw(t, "items") {
				p.WriteString(item.Draw(t, "item") + suffix.Draw(t, "suffix"))
			}
			subject := rapid.StringOfN(rapid.SampledFrom([]rune("aaab")), 0, 12, -1).Draw(t, "subject")
			r := reference{s: subject, p: p.String(), steps: 100_000}
			wantStart, wantEnd, wantErr := r.match(0)
			if wantErr == errReferenceSteps {
				continue
			}
			var m Matcher
			m.Init(subject, p.String(), nil)
			start, end, err := m.Match(0)
			if start != wantStart || end != wantEnd || !sameError(err, wantErr) {
				t.Fatalf("match(%q, %q) = %d, %d, %v, want %d, %d, %v", subject, p.String(), start, end, err, wantStart, wantEnd, wantErr)
			}
			for i, c := range r.captures {
				text, position, _, _ := m.Capture(i)
				if start >= 0 && (c.len >= 0 && text != subject[c.start:c.start+c.len] || c.len == capPosition && position != c.start+1) {
					t.Fatalf("match(%q, %q): capture %d is %q, %d", subject, p.String(), i, text, position)
				}
			}
		}
	})
}

// benign are operations of ordinary scripts with the text that an attacker
// would send.
var benign = []struct {
	name, pattern, text string // text is repeated
	op                  string
}{
	{"html escape, every byte", `[<>&"]`, "<", "gsub"},
	{"html escape, text", `[<>&"']`, "some text <b>& more</b> ", "gsub"},
	{"url decode", "%%(%x%x)", "%41%", "gsub"},
	{"url encode", "([^%w-_.~])", " /", "gsub"},
	{"collapse white space", "%s+", "  x", "gsub"},
	{"trim right", "%s+$", " ", "gsub"},
	{"trim right, text after", "%s+$", "      x", "gsub"},
	{"trim", "^%s*(.-)%s*$", " ", "match"},
	{"trim, text at the end", "^%s*(.-)%s*$", "x                                                                ", "match"},
	{"split", "([^,]*),?", "ab,,", "gmatch"},
	{"key and value", "(%w+)=(%w+)", "key", "gmatch"},
	{"key and value, no value", "(%w+)=(%w+)", "key=", "gmatch"},
	{"tags", "<(.-)>", "<", "gmatch"},
	{"tags with names", "<(%a+)[^>]*>", "<a", "gmatch"},
	{"last path segment", "([^/]+)$", "/a", "match"},
	{"extension", "^.+%.(%w+)$", "a.", "match"},
	{"extension, lazy", "^.-%.(%w+)$", "a.", "match"},
	{"line", "(.-)\r?\n", "abc\r", "gmatch"},
	{"words", "%f[%w]%w+", "word ", "gmatch"},
	{"address", "(%d+)%.(%d+)%.(%d+)%.(%d+)", "1.", "match"},
	{"digits", "%d+%.%d+%.%d+x", "1", "match"},
	{"cookie", "session=([^;]+)", "session", "match"},
	{"plain", "needle", "needl", "find"},
	{"trailing slash", "/*$", "/a", "gsub"},
	{"seven stars", "a*a*a*a*a*a*a*b", "a", "match"},
	{"lazy stars", "a-a-a-a-b", "a", "match"},
}

// work runs an operation and returns the steps it took.
func work(tb testing.TB, m *Matcher, op, subject, pattern string) int {
	const plenty = math.MaxInt
	budget := plenty
	m.Init(subject, pattern, &budget)
	var err error
	switch op {
	case "gsub":
		_, _, err = m.Gsub("[%0]", AllMatches, 1<<30)
	case "gmatch":
		for start := 0; start >= 0 && err == nil; {
			start, _, err = m.Next()
		}
	case "match":
		_, _, err = m.Match(0)
	case "find":
		_, _, err = m.Find(0)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return plenty - budget
}

func TestLinear(t *testing.T) {
	size := 512 << 10
	if testrace.Enabled {
		size = 16 << 10
	}
	if testing.Short() {
		size = 16 << 10
	}
	for _, tt := range benign {
		t.Run(tt.name, func(t *testing.T) {
			var m Matcher
			half := strings.Repeat(tt.text, size/len(tt.text))
			one := work(t, &m, tt.op, half, tt.pattern)
			two := work(t, &m, tt.op, half+half, tt.pattern)
			if ratio := float64(two) / float64(one); ratio > 2.1 {
				t.Errorf("%d steps for %d bytes, %d for twice as many: ratio %.2f", one, len(half), two, ratio)
			}
			if two > 60*2*len(half) {
				t.Errorf("%.1f steps a byte", float64(two)/float64(2*len(half)))
			}
		})
	}
}

// busy is how much more than on an idle machine a run may cost.
const busy = 3

// fastest runs f until a run costs the processor at most target, a limited
// number of times, and returns the least.
func fastest(target time.Duration, f func()) time.Duration { return cputime.Least(100, target, f) }

// TestThroughput wants 10 MB/s. That larger subjects do as well follows from
// TestLinear.
func TestThroughput(t *testing.T) {
	if testrace.Enabled {
		t.Skip("times mean nothing under the race detector")
	}
	const size = 64 << 10
	const target = size * time.Second / 10_000_000
	for _, tt := range benign {
		var m Matcher
		text := strings.Repeat(tt.text, size/len(tt.text))
		if d := fastest(target, func() { work(t, &m, tt.op, text, tt.pattern) }); d > busy*target {
			t.Errorf("%s: 64 KiB in %v, want %v", tt.name, d, target)
		}
	}
	var m Matcher
	text := strings.Repeat("<a href=\"x\">&</a>", 32<<10/17)
	entity := map[string]string{"<": "&lt;", ">": "&gt;", "&": "&amp;", "\"": "&quot;"}
	d := fastest(5*time.Millisecond, func() {
		m.Init(text, `[<>&"]`, nil)
		if _, _, err := m.GsubFunc(AllMatches, 0, func(m *Matcher) (string, bool, error) {
			c, _, _, err := m.Capture(0)
			return entity[c], false, err
		}); err != nil {
			t.Fatal(err)
		}
	})
	t.Logf("32 KiB escaped in %v", d)
	if d > busy*5*time.Millisecond {
		t.Errorf("32 KiB escaped in %v, want at most 5 ms", d)
	}
}

func TestStepLimit(t *testing.T) {
	a := strings.Repeat("a", 1000)
	tests := []struct{ name, subject, pattern string }{
		{"optional items", a, strings.Repeat("a?", 100) + strings.Repeat("a", 1001)},
		{"optional items, anchored", a[:30], "^" + strings.Repeat("a?", 30) + strings.Repeat("a", 30) + "b"},
		{"back-reference", a, "(a*)(a*)(a*)%1%2%3b"},
		{"back-reference, exponential", a, "(a*)a*a*a*a*%1b"},
		{"unbalanced brackets", strings.Repeat("(", 1<<20), "%b()"},
		{"captures between lazy items", a, "(.-)(.-)(.-)(.-)%1x"},
		{"many sets", a, "[a]*[a]-[a]*[a]-[a]*[a]-[a]*[a]-[a]*[a]-[a]*[a]-[a]*[a]-[a]*[a]-[a]*%1?[b]"},
		{"huge set", a, strings.Repeat("[b"+strings.Repeat("-z", 5000)+"]?", 9) + "(a?)" + strings.Repeat("a?", 30) + "%1%1b"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var m Matcher
			var err error
			var budget int
			d := fastest(5*time.Millisecond, func() {
				budget = DefaultSteps
				m.Init(tt.subject, tt.pattern, &budget)
				_, _, err = m.Match(0)
			})
			if err != ErrSteps && !errors.As(err, new(PatternError)) {
				t.Errorf("error %v, want %v", err, ErrSteps)
			}
			if err == ErrSteps && budget != 0 {
				t.Errorf("%d steps left", budget)
			}
			if d > busy*5*time.Millisecond && !testrace.Enabled {
				t.Errorf("stopped after %v", d)
			}
			t.Logf("%v in %v", err, d)
		})
	}
}

// Looking through a long pattern is paid for even when nothing is matched.
func TestLongPatternsCost(t *testing.T) {
	const size = 1 << 20
	for _, pattern := range []string{strings.Repeat("a", size), "x" + strings.Repeat("%1", size/2), "[" + strings.Repeat("a-z", size/3) + "]"} {
		for _, op := range []string{"find", "match", "gmatch", "gsub"} {
			var m Matcher
			if steps := work(t, &m, op, "y", pattern); steps < size/8 {
				t.Errorf("%s with %.10q…: %d steps", op, pattern, steps)
			}
		}
	}
}

func TestBudgetIsShared(t *testing.T) {
	budget := 100
	var m Matcher
	for range 1000 {
		m.Init("aaaa", "[ab]+c", &budget)
		_, _, err := m.Match(0)
		if err == ErrSteps {
			if budget != 0 {
				t.Errorf("%d steps left", budget)
			}
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if budget != 0 {
		t.Fatalf("%d steps left after 1000 matches", budget)
	}
	for _, op := range []func() error{
		func() error { _, _, err := m.Match(0); return err },
		func() error { _, _, err := m.Find(0); return err },
		func() error { _, _, err := m.Next(); return err },
		func() error { _, _, err := m.Gsub("", 1, 0); return err },
	} {
		m.Init("x", "x", &budget)
		if err := op(); err != ErrSteps {
			t.Errorf("with no steps left: %v", err)
		}
	}
	budget = -5 // a caller that overdraws
	m.Init("x", ".", &budget)
	if _, _, err := m.Match(0); err != ErrSteps || budget != 0 {
		t.Errorf("with a budget below zero: %v, %d left", err, budget)
	}
}

func TestOwnBudget(t *testing.T) {
	var m Matcher
	subject, pattern := strings.Repeat("a", 30), "^"+strings.Repeat("a?", 30)+strings.Repeat("a", 30)+"b"
	m.Init(subject, pattern, nil)
	if _, _, err := m.Match(0); err != ErrSteps {
		t.Fatalf("error %v, want %v", err, ErrSteps)
	}
	if _, _, err := m.Match(0); err != ErrSteps {
		t.Errorf("second operation: %v, want %v", err, ErrSteps)
	}
	m.Init("a", "a", nil)
	if start, _, err := m.Match(0); start != 0 || err != nil {
		t.Errorf("after Init: %d, %v", start, err)
	}
}

func TestMatchingAllocatesNothing(t *testing.T) {
	if testrace.Enabled {
		t.Skip("the race detector allocates")
	}
	subject := "GET /path/to/file.txt?key=value&k2=v2 HTTP/1.1"
	budget := math.MaxInt
	var captured int
	for _, pattern := range []string{"path", "(%w+)=(%w+)", "[^%s]+", "%b//", "^%u+%s+(%S+)", "()%f[%d]%d", "(.-)%?", "x?y?z?[%", "nothing here"} {
		if n := testing.AllocsPerRun(100, func() {
			var m Matcher
			m.Init(subject, pattern, &budget)
			m.Find(0)
			m.Match(3)
			for start := 0; start >= 0; {
				var err error
				if start, _, err = m.Next(); err != nil {
					break
				}
				for i := range m.NumCaptures() {
					text, _, _, _ := m.Capture(i)
					captured += len(text)
				}
			}
			m.Init(subject, "nothing", &budget)
			m.Gsub("x", AllMatches, 0)
		}); n != 0 {
			t.Errorf("%q: %v allocations", pattern, n)
		}
	}
	if n := testing.AllocsPerRun(100, func() {
		var m Matcher
		m.Init(subject, "[/?&]", &budget)
		m.Gsub("%%%0", AllMatches, 0)
	}); n > 2 {
		t.Errorf("gsub: %v allocations, want at most 2: the result, grown once", n)
	}
}
