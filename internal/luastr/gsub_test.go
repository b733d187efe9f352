package luastr

import (
	"errors"
	"strings"
	"testing"
)

func TestGsub(t *testing.T) {
	tests := []struct {
		name, subject, pattern, repl string
		limit                        int
		want                         string
		count                        int
	}{
		{"all", "hello world", "o", "0", AllMatches, "hell0 w0rld", 2},
		{"first", "hello world", "o", "0", 1, "hell0 world", 1},
		{"none", "hello", "l", "x", 0, "hello", 0},
		{"limit below zero", "hello", "l", "x", -1, "hello", 0},
		{"no match", "hello", "x", "y", AllMatches, "hello", 0},
		{"empty pattern", "abc", "", "-", AllMatches, "-a-b-c-", 4},
		{"empty matches", "abc", "x*", "-", AllMatches, "-a-b-c-", 4},
		{"empty match after a match", "aab", "a*", "-", AllMatches, "--b-", 3},
		{"anchor holds once", "aaa", "^a", "b", AllMatches, "baa", 1},
		{"anchored empty", "aaa", "^", "b", AllMatches, "baaa", 1},
		{"captures", "key=val", "(%w+)=(%w+)", "%2=%1 (%0)", AllMatches, "val=key (key=val)", 1},
		{"first capture is the match", "abc", "%w", "%1%1", AllMatches, "aabbcc", 3},
		{"position capture", "abc", "()b", "%1", AllMatches, "a2c", 1},
		{"escaped percent", "a", "a", "100%%", AllMatches, "100%", 1},
		{"escape of another byte", "a", "a", "%x%.", AllMatches, "x.", 1},
		{"percent at the end", "a", "a", "x%", AllMatches, "x", 1},
		{"zero byte", "a\x00b", "%z", "\x00%0", AllMatches, "a\x00\x00b", 1},
		{"unfinished capture that is not used", "abc", "(b", "x", AllMatches, "axc", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var m Matcher
			m.Init(tt.subject, tt.pattern, nil)
			got, n, err := m.Gsub(tt.repl, tt.limit, 0)
			if got != tt.want || n != tt.count || err != nil {
				t.Errorf("%q, %d, %v, want %q, %d", got, n, err, tt.want, tt.count)
			}
		})
	}
}

func TestGsubErrors(t *testing.T) {
	tests := []struct{ pattern, repl, want string }{
		{"b", "%2", "invalid capture index"},
		{"(b)", "%2", "invalid capture index"},
		{"(b", "%1", "unfinished capture"},
		{"b[", "x", "malformed pattern (missing ']')"},
		{"^a[", "x", "malformed pattern (missing ']')"},
	}
	for _, tt := range tests {
		var m Matcher
		m.Init("abc", tt.pattern, nil)
		if got, n, err := m.Gsub(tt.repl, AllMatches, 0); err == nil || err.Error() != tt.want || got != "" || n != 0 {
			t.Errorf("gsub(abc, %q, %q) = %q, %d, %v, want %s", tt.pattern, tt.repl, got, n, err, tt.want)
		}
	}
}

func TestGsubFunc(t *testing.T) {
	var m Matcher
	m.Init("a1b2c3", "(%a)(%d)", nil)
	got, n, err := m.GsubFunc(2, 0, func(m *Matcher) (string, bool, error) {
		letter, _, _, _ := m.Capture(0)
		digit, _, _, _ := m.Capture(1)
		return strings.Repeat(letter, int(digit[0]-'0')), letter == "a", nil
	})
	if got != "a1bbc3" || n != 2 || err != nil {
		t.Errorf("%q, %d, %v, want a1bbc3, 2", got, n, err)
	}
	mine := errors.New("mine")
	m.Init("abc", ".", nil)
	calls := 0
	got, n, err = m.GsubFunc(AllMatches, 0, func(*Matcher) (string, bool, error) {
		calls++
		return "", true, mine
	})
	if got != "" || n != 0 || err != mine || calls != 1 {
		t.Errorf("%q, %d, %v after %d calls, want the function's error after one", got, n, err, calls)
	}
}

// A function may use up steps of the same budget with matchers of its own.
func TestGsubFuncSharesBudget(t *testing.T) {
	budget := 1000
	var m Matcher
	m.Init(strings.Repeat("a", 100), "a", &budget)
	_, _, err := m.GsubFunc(AllMatches, 0, func(*Matcher) (string, bool, error) {
		var inner Matcher
		inner.Init(strings.Repeat("b", 500), "b-$", &budget)
		_, _, err := inner.Match(0)
		return "", true, err
	})
	if err != ErrSteps || budget != 0 {
		t.Errorf("%v with %d steps left, want %v", err, budget, ErrSteps)
	}
}

// A replacement that adds nothing must not be free.
func TestGsubLimitsEmptyReplacements(t *testing.T) {
	budget := DefaultSteps
	var m Matcher
	m.Init(strings.Repeat("a", 1<<20), "(b*)a", &budget)
	if _, _, err := m.Gsub(strings.Repeat("%1", 10_000), AllMatches, 0); err != ErrSteps {
		t.Errorf("%v, want %v", err, ErrSteps)
	}
}

func TestGsubLimitsBytes(t *testing.T) {
	tests := []struct {
		name, subject, repl string
		max                 int
		ok                  bool
	}{
		{"exactly the limit", "aaaa", "bb", 8, true},
		{"one byte too many", "aaaa", "bb", 7, false},
		{"rest of the subject counts", "a" + strings.Repeat("-", 20), "b", 20, false},
		{"beginning of the subject counts", strings.Repeat("-", 20) + "a", "b", 20, false},
		{"no match, subject as it is", strings.Repeat("-", 20), "b", 5, true},
		{"escapes in the replacement", "aaaa", "%%%0%1", 11, false},
		{"default", strings.Repeat("a", 1000), strings.Repeat("b", 1100), 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var m Matcher
			m.Init(tt.subject, "a", nil)
			got, _, err := m.Gsub(tt.repl, AllMatches, tt.max)
			var size *SizeError
			switch {
			case tt.ok && err != nil:
				t.Errorf("error %v", err)
			case !tt.ok && (!errors.Is(err, ErrTooLarge) || !errors.As(err, &size) || size.Limit != byteLimit(tt.max) || got != ""):
				t.Errorf("%d bytes, %v, want a SizeError for %d", len(got), err, byteLimit(tt.max))
			}
		})
	}
	if got, want := (&SizeError{Limit: 7}).Error(), "resulting string too large (limit 7 bytes)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
