package policy

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"unicode/utf8"

	"github.com/limpetlb/limpet/internal/fielderr"
)

// Limits of regular expressions: see Op. Constructors check the first three. A
// request whose subject is longer than the last cannot be judged in bounded
// time. It is refused even with Env.FailOpen, because clients choose the
// length.
const (
	maxPattern       = 1024    // bytes of one pattern
	maxProgram       = 500     // instructions of one compiled pattern
	maxPatterns      = 1000    // patterns of one policy
	maxRegexpSubject = 8 << 10 // bytes of a subject that a pattern is tried on
)

// pattern is one compiled regular expression. Matching takes up to milliseconds
// for a subject; searching for a text that every match contains takes
// nanoseconds and suffices for most requests.
type pattern struct {
	re      *regexp.Regexp
	literal []byte // folded; part of every folded subject that re matches
}

func (p *pattern) matches(t text) bool {
	return bytes.Contains(t.folded, p.literal) && p.re.Match(t.exact)
}

// compilePattern compiles one pattern within the limits.
func (c *compiler) compilePattern(source string, caseSensitive bool) (*pattern, error) {
	c.patterns++
	if c.patterns == maxPatterns+1 {
		c.faults.Addf("rules", nil, "more than %d regular expressions", maxPatterns)
	}
	if c.patterns > maxPatterns {
		return nil, errors.New("one regular expression too many")
	}
	if len(source) > maxPattern {
		return nil, fmt.Errorf("%d bytes are more than %d", len(source), maxPattern)
	}
	flags := syntax.Perl
	if !caseSensitive {
		flags |= syntax.FoldCase
	}
	parsed, err := syntax.Parse(source, flags)
	if e := (*syntax.Error)(nil); errors.As(err, &e) {
		if e.Expr == source {
			return nil, errors.New(e.Code.String())
		}
		return nil, fmt.Errorf("%v: %s", e.Code, fielderr.Quote(e.Expr))
	}
	if err != nil {
		return nil, err
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, err
	}
	if n := len(program.Inst); n > maxProgram {
		return nil, fmt.Errorf("compiles to %d instructions, which are more than %d", n, maxProgram)
	}
	// A flag in front is not a group around: the pattern cannot close it.
	text := source
	if !caseSensitive {
		text = "(?i)" + source
	}
	re, err := regexp.Compile(text)
	if err != nil {
		return nil, err
	}
	return &pattern{re, fold(requiredLiteral(parsed))}, nil
}

// requiredLiteral returns the longest text that it finds in every match of re,
// or "". A pattern that may match invalid UTF-8, as U+FFFD does, has none.
func requiredLiteral(re *syntax.Regexp) string {
	switch re.Op {
	case syntax.OpLiteral:
		if slices.Contains(re.Rune, utf8.RuneError) {
			return ""
		}
		return string(re.Rune)
	case syntax.OpCapture, syntax.OpPlus:
		return requiredLiteral(re.Sub[0])
	case syntax.OpRepeat:
		if re.Min > 0 {
			return requiredLiteral(re.Sub[0])
		}
	case syntax.OpConcat:
		longest := ""
		for _, sub := range re.Sub {
			if l := requiredLiteral(sub); len(l) > len(longest) {
				longest = l
			}
		}
		return longest
	}
	return ""
}
