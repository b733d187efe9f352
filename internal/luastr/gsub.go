package luastr

import (
	"math"
	"strings"
)

// AllMatches is the limit for Gsub and GsubFunc that replaces every match.
const AllMatches = math.MaxInt

// Gsub is string.gsub with a string: it replaces at most limit matches (none
// when limit is negative or 0; AllMatches for all of them) by repl and returns
// the result with the number of replacements. In repl, %0 is the whole match,
// %1 to %9 are captures (%1 is the whole match when there are none), and %
// before any other byte stands for that byte.
//
// maxBytes limits the result; 0 or less means DefaultMaxBytes. A result that
// would be longer gives a *SizeError, except that a subject without a match is
// returned as it is. Other errors are those of Match, and a PatternError for a
// capture that does not exist.
func (m *Matcher) Gsub(repl string, limit, maxBytes int) (result string, count int, err error) {
	g := gsub{max: byteLimit(maxBytes)}
	// Escapes that stand for nothing take time and add no bytes.
	cost := strings.Count(repl, "%") + len(repl)>>3
	return g.run(m, limit, cost, func() error { return g.expand(m, repl) })
}

// GsubFunc is string.gsub with a table or function: for each match it calls
// repl, which reads the match through Capture (a table is indexed with
// Capture(0); a function gets all captures, or Capture(0) when there are none).
// repl returns the replacement, or keep to leave the match as it is; its error
// ends the operation and is returned as it is. repl must not use m for another
// match. See Gsub for the rest.
func (m *Matcher) GsubFunc(limit, maxBytes int, repl func(m *Matcher) (text string, keep bool, err error)) (result string, count int, err error) {
	g := gsub{max: byteLimit(maxBytes)}
	return g.run(m, limit, 0, func() error {
		text, keep, err := repl(m)
		if err != nil {
			return err
		}
		if keep {
			text = m.subject[m.start:m.end]
		}
		return g.add(text)
	})
}

// gsub is the result of one substitution as far as it is built.
type gsub struct {
	max int
	buf strings.Builder
}

// run calls replace for each match in turn, which adds the replacement and
// takes cost steps.
func (g *gsub) run(m *Matcher, limit, cost int, replace func() error) (string, int, error) {
	anchored := strings.HasPrefix(m.pattern, "^")
	count := 0
	copied := 0 // subject[:copied] has been added, replaced where it matched
	for s := 0; count < limit && s <= len(m.subject); {
		m.begin()
		if anchored {
			m.start = m.at(s, 1)
		} else {
			m.start = m.search(s)
		}
		if m.start >= 0 {
			m.spend(cost)
		}
		start, end, err := m.finish(m.start)
		if err != nil {
			return "", 0, err
		}
		if start < 0 {
			break
		}
		if count == 0 {
			g.buf.Grow(min(g.max, len(m.subject)))
		}
		count++
		if err := g.add(m.subject[copied:start]); err != nil {
			return "", 0, err
		}
		if err := replace(); err != nil {
			return "", 0, err
		}
		copied = end
		s = end
		if end == start {
			s++ // the byte after an empty match is kept
		}
		if anchored {
			break
		}
	}
	if count == 0 {
		return m.subject, 0, nil
	}
	if err := g.add(m.subject[copied:]); err != nil {
		return "", 0, err
	}
	return g.buf.String(), count, nil
}

func (g *gsub) add(text string) error {
	if len(text) > g.max-g.buf.Len() {
		return &SizeError{Limit: g.max}
	}
	g.buf.WriteString(text)
	return nil
}

// expand adds the replacement string for the current match.
func (g *gsub) expand(m *Matcher, repl string) error {
	for {
		i := strings.IndexByte(repl, '%')
		if i < 0 || i+1 == len(repl) {
			return g.add(strings.TrimSuffix(repl, "%"))
		}
		if err := g.add(repl[:i]); err != nil {
			return err
		}
		text, err := m.expansion(repl[i+1 : i+2])
		if err != nil {
			return err
		}
		if err := g.add(text); err != nil {
			return err
		}
		repl = repl[i+2:]
	}
}

// expansion returns what the byte after a percent sign stands for.
func (m *Matcher) expansion(c string) (string, error) {
	switch {
	case c == "0":
		return m.subject[m.start:m.end], nil
	case "1" <= c && c <= "9":
		text, position, isPosition, err := m.Capture(int(c[0] - '1'))
		if isPosition {
			text = FormatNumber(float64(position))
		}
		return text, err
	}
	return c, nil
}
