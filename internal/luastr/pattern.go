package luastr

import "strings"

// The matcher walks the pattern text itself and backtracks, as Lua 5.1 does,
// because Lua reports a malformed pattern only when matching arrives at the
// malformed place. Four things keep it fast and bounded:
//
//   - Each single-character item becomes a byteSet. Bracketed sets are compiled
//     when they are first met and kept in the Matcher.
//   - Repetitions of a single character are loops; only captures and the
//     alternatives of an item recurse, never deeper than MaxDepth.
//   - A search jumps to the next place where the pattern's first item can
//     match.
//   - A repetition that failed remembers where. What follows an item either
//     matches at a position or does not, no matter how the matcher got there,
//     as long as the pattern has no back-reference. So if "what follows" failed
//     at every position of a run, the same item started anywhere in that run
//     fails at once. This turns the usual quadratic and exponential patterns
//     ("%s+$", "a*a*a*b") into linear ones.
//
// What is left (chains of "?", back-references, unbalanced %b) is stopped by
// the step budget.

const (
	// MaxCaptures is the largest number of captures a pattern may have.
	MaxCaptures = 32
	// MaxDepth bounds the nesting of items that need a choice point: captures
	// and repetitions. A pattern beyond it gives ErrTooComplex.
	MaxDepth = 200
	// DefaultSteps is the step budget used where the caller gives none. It
	// lasts for 1 to 4 ms of matching. A step is one item tried at one
	// position, one byte of a bracketed set, one escape of a replacement, or up
	// to eight bytes passed over by a repetition or a search.
	DefaultSteps = 300_000
	// DefaultMaxBytes is the limit of a result's length used where the caller
	// gives none.
	DefaultMaxBytes = 1 << 20
	// DefaultMaxValues is the limit of the number of results of string.byte
	// used where the caller gives none; the limit of Lua 5.1 is about the same.
	DefaultMaxValues = 8000
)

var (
	errEndsInEscape   error = PatternError("malformed pattern (ends with '%')")
	errMissingBracket error = PatternError("malformed pattern (missing ']')")
	errNoOpenCapture  error = PatternError("invalid pattern capture")
	errUnfinished     error = PatternError("unfinished capture")
	errCaptureIndex   error = PatternError("invalid capture index")
	errUnbalanced     error = PatternError("unbalanced pattern")
	errCaptures       error = PatternError("too many captures")
	errFrontier       error = PatternError("missing '[' after '%f' in pattern")
)

// A Matcher matches one Lua 5.1 pattern against one subject. Init prepares it,
// one of Find, Match, Next and Gsub uses it, and Capture reads the last match.
//
// Matching allocates nothing. A Matcher may be kept in a pool or in another
// struct and initialised again; it keeps its strings and its step counter until
// then. The zero Matcher has no steps. A Matcher is not safe for concurrent
// use.
//
// Characters are bytes, classes are those of the C locale. Unlike Lua 5.1,
// which stops reading a pattern at its first zero byte, a zero byte in a
// pattern stands for itself.
type Matcher struct {
	subject, pattern string

	steps *int // the caller's budget, nil when left is all there is
	left  int
	debt  int // steps for preparing the pattern, due with the first operation

	start, end int // last match; start is -1 when there is none
	next       int // where Next goes on
	level      int // captures begun in the current attempt
	err        error

	lead     lead
	backrefs bool // remembering failures would be wrong

	nsets    int
	sets     [8]compiledSet
	failures bool // runs has an entry
	runs     [16]failedRun
	captures [MaxCaptures]capture
}

type capture struct{ start, len int }

// Values of capture.len that are not lengths.
const (
	capUnfinished = -1
	capPosition   = -2
)

// Results of a match that are not positions. Callers pass both on with one
// test: what is not noMatch ends the search.
const (
	noMatch = -1
	failed  = -2 // Matcher.err says why
)

// compiledSet is a bracketed set at pattern[start:end].
type compiledSet struct {
	start, end int
	set        byteSet
}

// failedRun says that the repeated item that ends before pattern position after
// matches every byte of subject[lo:hi] and no byte at hi, and that the pattern
// from after on matches at none of the positions lo to hi. Position 0 of after
// marks an empty slot.
type failedRun struct{ after, lo, hi int }

// lead is what a match must begin with, as far as a look at the pattern tells.
type lead struct {
	state leadState
	text  string  // leadText: literal bytes
	set   byteSet // leadSet
}

type leadState uint8

const (
	leadUnknown leadState = iota // not looked at yet
	leadNone
	leadText
	leadSet
)

// Init prepares m to match pattern against subject and forgets everything else.
//
// steps is the remaining budget, shared with whatever other operations the
// caller lets use it: it is decremented, and at zero the operation ends with
// ErrSteps. With nil, m has DefaultSteps of its own until the next Init.
func (m *Matcher) Init(subject, pattern string, steps *int) {
	m.subject, m.pattern = subject, pattern
	m.steps, m.left = steps, DefaultSteps
	m.debt = len(pattern) >> 3
	m.start, m.end, m.next = -1, -1, 0
	m.level, m.err = 0, nil
	m.lead.state = leadUnknown
	m.backrefs = hasBackReference(pattern)
	m.nsets = 0
	if m.failures {
		clear(m.runs[:])
		m.failures = false
	}
}

// hasBackReference may take an escaped digit inside a set for a back-reference;
// that costs speed only.
func hasBackReference(pattern string) bool {
	for {
		i := strings.IndexByte(pattern, '%')
		if i < 0 || i+1 >= len(pattern) {
			return false
		}
		if c := pattern[i+1]; '0' <= c && c <= '9' {
			return true
		}
		pattern = pattern[i+2:]
	}
}

// Find is string.find: like Match, except that a pattern without any of the
// characters ^$*+?.([%- is searched for as it is (so a lone ")" is not an error
// there).
func (m *Matcher) Find(init int) (start, end int, err error) {
	for i := range len(m.pattern) {
		if specials.has(m.pattern[i]) {
			return m.Match(init)
		}
	}
	m.begin()
	m.level = 0
	init = max(0, min(init, len(m.subject)))
	m.start, m.end = FindPlain(m.subject, m.pattern, init)
	passed := m.end - init
	if m.start < 0 {
		passed = len(m.subject) - init
	}
	m.spendBytes(passed)
	return m.finish(m.start)
}

// Match is string.match: it looks for the first match at byte offset init or
// after it and returns the match as subject[start:end], or start -1 when there
// is none. A pattern that begins with ^ matches at init only. init counts from
// 0 and is clamped to the subject. The error is ErrSteps, ErrTooComplex or a
// PatternError.
func (m *Matcher) Match(init int) (start, end int, err error) {
	m.begin()
	init = max(0, min(init, len(m.subject)))
	if strings.HasPrefix(m.pattern, "^") {
		m.start = m.at(init, 1)
	} else {
		m.start = m.search(init)
	}
	return m.finish(m.start)
}

// Next is one step of string.gmatch: it returns the next match after the
// previous one, or start -1 when there are no more. As in Lua 5.1, a leading ^
// is an ordinary character here, and after an empty match the search goes on
// one byte later.
func (m *Matcher) Next() (start, end int, err error) {
	m.begin()
	m.start = noMatch
	if m.next <= len(m.subject) {
		m.start = m.search(m.next)
	}
	switch {
	case m.start < 0:
		m.next = len(m.subject) + 1
	case m.end == m.start:
		m.next = m.end + 1
	default:
		m.next = m.end
	}
	return m.finish(m.start)
}

// NumCaptures returns how many captures the last match has: 0 when the pattern
// has none. string.find adds that many results to its two; string.match,
// string.gmatch and string.gsub pass the whole match, Capture(0), in place of
// no captures.
func (m *Matcher) NumCaptures() int {
	if m.start < 0 {
		return 0
	}
	return m.level
}

// Capture returns capture i of the last match, counted from 0. For a position
// capture, isPosition is true and position is the byte's number counted from 1;
// otherwise text is the captured part of the subject. When the pattern has no
// captures, Capture(0) is the whole match. The error is a PatternError:
// "invalid capture index" when there is no such capture, "unfinished capture"
// when the pattern opens it without closing it.
func (m *Matcher) Capture(i int) (text string, position int, isPosition bool, err error) {
	if m.start < 0 || i < 0 || i >= max(m.level, 1) {
		return "", 0, false, errCaptureIndex
	}
	if m.level == 0 {
		return m.subject[m.start:m.end], 0, false, nil
	}
	switch c := m.captures[i]; c.len {
	case capUnfinished:
		return "", 0, false, errUnfinished
	case capPosition:
		return "", c.start + 1, true, nil
	default:
		return m.subject[c.start : c.start+c.len], 0, false, nil
	}
}

// begin and finish bracket an operation: in between, the budget is in m.left.
func (m *Matcher) begin() {
	if m.steps != nil {
		m.left = *m.steps
	}
	m.left -= m.debt
	m.debt = 0
	m.err = nil
}

func (m *Matcher) finish(start int) (int, int, error) {
	m.left = max(m.left, 0)
	if m.steps != nil {
		*m.steps = m.left
	}
	if m.err != nil || start < 0 {
		m.start, m.end = -1, -1
		return -1, -1, m.err
	}
	return m.start, m.end, nil
}

// fail ends the operation with an error.
func (m *Matcher) fail(err error) int {
	m.err = err
	return failed
}

// spend takes n steps from the budget.
func (m *Matcher) spend(n int) bool {
	m.left -= n
	if m.left < 0 {
		m.fail(ErrSteps)
		return false
	}
	return true
}

// spendBytes takes the steps for passing over n bytes in a tight loop.
func (m *Matcher) spendBytes(n int) bool { return m.spend(1 + n>>3) }

// at tries the pattern from p on at position s alone and returns s, noMatch or
// failed.
func (m *Matcher) at(s, p int) int {
	m.level = 0
	end := m.match(s, p, MaxDepth)
	if end < 0 {
		return end
	}
	m.end = end
	return s
}

// search tries the pattern at s and every later position.
func (m *Matcher) search(s int) int {
	if m.lead.state == leadUnknown {
		m.findLead()
	}
	for {
		from := s
		switch m.lead.state {
		case leadText:
			i := strings.Index(m.subject[s:], m.lead.text)
			if i < 0 {
				m.spendBytes(len(m.subject) - s)
				return noMatch
			}
			s += i
		case leadSet:
			for s < len(m.subject) && !m.lead.set.has(m.subject[s]) {
				s++
			}
			if s == len(m.subject) {
				m.spendBytes(s - from)
				return noMatch
			}
		}
		if !m.spendBytes(s - from) {
			return failed
		}
		if r := m.at(s, 0); r != noMatch {
			return r
		}
		if s++; s > len(m.subject) {
			return noMatch
		}
	}
}

// findLead looks at the beginning of the pattern, through opening parentheses,
// for something that every match must begin with. It never sets an error: a
// malformed item gives leadNone, and matching reports it in due course.
func (m *Matcher) findLead() {
	m.lead.state = leadNone
	p := 0
	for p < len(m.pattern) && m.pattern[p] == '(' && p < MaxCaptures {
		p++
	}
	n := p
	for n < len(m.pattern) && !specials.has(m.pattern[n]) && m.pattern[n] != ')' {
		n++
	}
	if n < len(m.pattern) && n > p && isSuffix(m.pattern[n]) {
		n-- // the last byte of the run may be repeated or left out
	}
	if n > p {
		m.lead.state, m.lead.text = leadText, m.pattern[p:n]
		return
	}
	if p == len(m.pattern) {
		return
	}
	switch m.pattern[p] {
	case '(', ')', '$':
		return
	case '%':
		if p+1 < len(m.pattern) {
			if c := m.pattern[p+1]; c == 'b' || c == 'f' || '0' <= c && c <= '9' {
				return
			}
		}
	}
	set, after := m.item(p)
	if after < 0 {
		m.err = nil
		return
	}
	if after < len(m.pattern) && isSuffix(m.pattern[after]) && m.pattern[after] != '+' {
		return
	}
	m.lead.state, m.lead.set = leadSet, *set
}

func isSuffix(c byte) bool { return c == '*' || c == '+' || c == '-' || c == '?' }

// match tries pattern[p:] at position s and returns the end of the match. depth
// is how many more levels it may recurse.
func (m *Matcher) match(s, p, depth int) int {
	if depth == 0 {
		return m.fail(ErrTooComplex)
	}
	depth--
	for {
		if m.left--; m.left < 0 {
			return m.fail(ErrSteps)
		}
		if p == len(m.pattern) {
			return s
		}
		switch m.pattern[p] {
		case '(':
			if p+1 < len(m.pattern) && m.pattern[p+1] == ')' {
				return m.openCapture(s, p+2, depth, capPosition)
			}
			return m.openCapture(s, p+1, depth, capUnfinished)
		case ')':
			return m.closeCapture(s, p+1, depth)
		case '$':
			if p+1 == len(m.pattern) {
				if s == len(m.subject) {
					return s
				}
				return noMatch
			}
		case '%':
			if p+1 == len(m.pattern) {
				return m.fail(errEndsInEscape)
			}
			switch c := m.pattern[p+1]; {
			case c == 'b':
				if s = m.balance(s, p+2); s < 0 {
					return s
				}
				p += 4
				continue
			case c == 'f':
				var ok bool
				if p, ok = m.frontier(s, p+2); !ok {
					return p
				}
				continue
			case '0' <= c && c <= '9':
				if s = m.backReference(s, int(c)-'1'); s < 0 {
					return s
				}
				p += 2
				continue
			}
		}

		set, after := m.item(p)
		if after < 0 {
			return failed
		}
		matches := s < len(m.subject) && set.has(m.subject[s])
		var suffix byte
		if after < len(m.pattern) {
			suffix = m.pattern[after]
		}
		switch suffix {
		case '?':
			if matches {
				if r := m.match(s+1, after+1, depth); r != noMatch {
					return r
				}
			}
			p = after + 1
		case '*':
			return m.longest(s, set, after+1, depth)
		case '+':
			if !matches {
				return noMatch
			}
			return m.longest(s+1, set, after+1, depth)
		case '-':
			return m.shortest(s, set, after+1, depth)
		default:
			if !matches {
				return noMatch
			}
			s, p = s+1, after
		}
	}
}

// item resolves the single-character item at pattern[p] and returns what it
// matches and where it ends, or failed.
func (m *Matcher) item(p int) (set *byteSet, end int) {
	switch c := m.pattern[p]; c {
	case '.':
		return &anyByte, p + 1
	case '%':
		if p+1 == len(m.pattern) {
			return nil, m.fail(errEndsInEscape)
		}
		return &escapes[m.pattern[p+1]], p + 2
	case '[':
		return m.set(p)
	default:
		return &literals[c], p + 1
	}
}

// set returns the bracketed set at pattern[p], from the ones compiled before if
// possible.
func (m *Matcher) set(p int) (*byteSet, int) {
	for i := range m.nsets {
		if c := &m.sets[i]; c.start == p {
			return &c.set, c.end
		}
	}
	end := m.setEnd(p)
	if end < 0 || !m.spend(end-p) {
		return nil, failed
	}
	// A pattern with more sets than there is room for shares the last place.
	if m.nsets < len(m.sets) {
		m.nsets++
	}
	c := &m.sets[m.nsets-1]
	c.start, c.end = p, end
	c.set = compileSet(m.pattern[p+1 : end])
	return &c.set, end
}

// setEnd returns the position after the bracketed set at pattern[p].
func (m *Matcher) setEnd(p int) int {
	p++
	if p < len(m.pattern) && m.pattern[p] == '^' {
		p++
	}
	for first := true; ; first = false { // a bracket in the first place stands for itself
		if p >= len(m.pattern) {
			return m.fail(errMissingBracket)
		}
		switch c := m.pattern[p]; {
		case c == ']' && !first:
			return p + 1
		case c == '%' && p+1 < len(m.pattern):
			p++
		}
		p++
	}
}

// compileSet compiles the text of a set after its opening bracket, closing
// bracket included. It reads odd forms as Lua 5.1 does: the end of a range may
// be any byte, even "%", and what follows such a range may be an escape of the
// closing bracket.
func compileSet(text string) (set byteSet) {
	end := len(text) - 1 // of the closing bracket
	i := 0
	negated := text[0] == '^'
	if negated {
		i++
	}
	for ; i < end; i++ {
		switch {
		case text[i] == '%':
			i++
			set.addSet(&escapes[text[i]])
		case text[i+1] == '-' && i+2 < end:
			set.addRange(text[i], text[i+2])
			i += 2
		default:
			set.add(text[i])
		}
	}
	if negated {
		set.invert()
	}
	return set
}

// longest matches as many bytes of set as there are from s on, then the pattern
// from p on, giving back one byte after the other until that matches.
func (m *Matcher) longest(s int, set *byteSet, p, depth int) int {
	run := m.runAt(p)
	known := run.after == p && !m.backrefs
	if known && run.lo <= s && s <= run.hi {
		return noMatch
	}
	hi := s
	for hi < len(m.subject) && set.has(m.subject[hi]) {
		hi++
		if known && hi == run.lo {
			break
		}
	}
	if !m.spendBytes(hi - s) {
		return failed
	}
	top := hi                  // the last position to try
	if known && hi == run.lo { // from here to the end of the run is known to fail
		top, hi = run.lo-1, run.hi
	}
	if p == len(m.pattern)-1 && m.pattern[p] == '$' && top < len(m.subject) {
		// Only the subject's end can match: no need to ask at each position.
		return m.remember(run, p, s, hi)
	}
	for i := top; i >= s; i-- {
		if r := m.match(i, p, depth); r != noMatch {
			return r
		}
	}
	return m.remember(run, p, s, hi)
}

// shortest matches the pattern from p on at s, or one byte of set later, and so
// on.
func (m *Matcher) shortest(s int, set *byteSet, p, depth int) int {
	run := m.runAt(p)
	known := run.after == p && !m.backrefs
	lo, hi := run.lo, run.hi
	for i := s; ; i++ {
		if known && lo <= i && i <= hi {
			return m.remember(run, p, min(lo, s), hi)
		}
		if r := m.match(i, p, depth); r != noMatch {
			return r
		}
		if i == len(m.subject) || !set.has(m.subject[i]) {
			return m.remember(run, p, s, i)
		}
	}
}

// runAt returns the place for the repetition that ends before p. Two
// repetitions are at least two bytes apart, so short patterns have a place for
// each; long ones share, and forget.
func (m *Matcher) runAt(p int) *failedRun { return &m.runs[p/2%len(m.runs)] }

func (m *Matcher) remember(run *failedRun, after, lo, hi int) int {
	m.failures = true
	*run = failedRun{after, lo, hi}
	return noMatch
}

func (m *Matcher) openCapture(s, p, depth, kind int) int {
	if m.level == MaxCaptures {
		return m.fail(errCaptures)
	}
	m.captures[m.level] = capture{s, kind}
	m.level++
	r := m.match(s, p, depth)
	if r == noMatch {
		m.level--
	}
	return r
}

func (m *Matcher) closeCapture(s, p, depth int) int {
	for i := m.level - 1; i >= 0; i-- {
		c := &m.captures[i]
		if c.len != capUnfinished {
			continue
		}
		c.len = s - c.start
		r := m.match(s, p, depth)
		if r == noMatch {
			c.len = capUnfinished
		}
		return r
	}
	return m.fail(errNoOpenCapture)
}

// balance matches %b with the two bytes at pattern[p].
func (m *Matcher) balance(s, p int) int {
	if p+1 >= len(m.pattern) {
		return m.fail(errUnbalanced)
	}
	open, shut := m.pattern[p], m.pattern[p+1]
	if s == len(m.subject) || m.subject[s] != open {
		return noMatch
	}
	depth := 1
	for i := s + 1; i < len(m.subject); i++ {
		switch m.subject[i] {
		case shut:
			if depth--; depth == 0 {
				if !m.spendBytes(i - s) {
					return failed
				}
				return i + 1
			}
		case open:
			depth++
		}
	}
	if !m.spendBytes(len(m.subject) - s) {
		return failed
	}
	return noMatch
}

// frontier matches %f with the set at pattern[p]: a border between a byte
// outside the set and one inside. Before and after the subject there is a zero
// byte. It returns the position after the set and true, or a result of match
// and false.
func (m *Matcher) frontier(s, p int) (int, bool) {
	if p >= len(m.pattern) || m.pattern[p] != '[' {
		return m.fail(errFrontier), false
	}
	set, end := m.set(p)
	if end < 0 {
		return failed, false
	}
	var before, after byte
	if s > 0 {
		before = m.subject[s-1]
	}
	if s < len(m.subject) {
		after = m.subject[s]
	}
	if set.has(before) || !set.has(after) {
		return noMatch, false
	}
	return end, true
}

// backReference matches the text of capture i once more.
func (m *Matcher) backReference(s, i int) int {
	if i < 0 || i >= m.level || m.captures[i].len == capUnfinished {
		return m.fail(errCaptureIndex)
	}
	c := m.captures[i]
	if c.len == capPosition || c.len > len(m.subject)-s {
		return noMatch
	}
	if !m.spendBytes(c.len) {
		return failed
	}
	if m.subject[s:s+c.len] != m.subject[c.start:c.start+c.len] {
		return noMatch
	}
	return s + c.len
}
