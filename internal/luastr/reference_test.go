package luastr

import (
	"errors"
	"strings"
)

// reference is a matcher as simple as can be: it recurses for each byte, tests
// each byte against the text of the pattern and remembers nothing. It is the
// oracle of the fuzz test and shows what the real matcher saves.
type reference struct {
	s, p     string
	captures []capture
	steps    int
}

var errReferenceSteps = errors.New("reference: out of steps")

type stop struct{ err error }

// match returns the first match at init or later as Matcher.Match does.
func (r *reference) match(init int) (start, end int, err error) {
	defer func() {
		if v := recover(); v != nil {
			start, end, err = -1, -1, v.(stop).err
		}
	}()
	p, anchored := 0, false
	if strings.HasPrefix(r.p, "^") {
		p, anchored = 1, true
	}
	for s := init; s <= len(r.s); s++ {
		r.captures = nil
		if end := r.try(s, p); end >= 0 {
			return s, end, nil
		}
		if anchored {
			break
		}
	}
	return -1, -1, nil
}

func (r *reference) try(s, p int) int {
	if r.steps--; r.steps < 0 {
		panic(stop{errReferenceSteps})
	}
	if p == len(r.p) {
		return s
	}
	switch {
	case r.p[p] == '(':
		saved := r.captures
		if len(saved) == MaxCaptures {
			panic(stop{errCaptures})
		}
		kind := capUnfinished
		p++
		if p < len(r.p) && r.p[p] == ')' {
			kind = capPosition
			p++
		}
		r.captures = append(append([]capture(nil), saved...), capture{s, kind})
		end := r.try(s, p)
		if end < 0 {
			r.captures = saved
		}
		return end
	case r.p[p] == ')':
		saved := r.captures
		r.captures = append([]capture(nil), saved...)
		for i := len(r.captures) - 1; ; i-- {
			if i < 0 {
				panic(stop{errNoOpenCapture})
			}
			if c := &r.captures[i]; c.len == capUnfinished {
				c.len = s - c.start
				break
			}
		}
		end := r.try(s, p+1)
		if end < 0 {
			r.captures = saved
		}
		return end
	case r.p[p:] == "$":
		if s == len(r.s) {
			return s
		}
		return -1
	case strings.HasPrefix(r.p[p:], "%b"):
		if p+3 >= len(r.p) {
			panic(stop{errUnbalanced})
		}
		open, shut := r.p[p+2], r.p[p+3]
		for i, depth := s, 0; i < len(r.s); i++ {
			switch c := r.s[i]; {
			case i == s && c != open:
				return -1
			case i > s && c == shut:
				depth--
			case c == open:
				depth++
			}
			if depth == 0 {
				return r.try(i+1, p+4)
			}
		}
		return -1
	case strings.HasPrefix(r.p[p:], "%f"):
		if !strings.HasPrefix(r.p[p+2:], "[") {
			panic(stop{errFrontier})
		}
		padded := "\x00" + r.s + "\x00"
		end := r.itemEnd(p + 2)
		if r.single(padded[s], p+2, end) || !r.single(padded[s+1], p+2, end) {
			return -1
		}
		return r.try(s, end)
	case r.p[p] == '%' && p+1 < len(r.p) && isDigit(r.p[p+1]):
		i := int(r.p[p+1]) - '1'
		if i < 0 || i >= len(r.captures) || r.captures[i].len == capUnfinished {
			panic(stop{errCaptureIndex})
		}
		c := r.captures[i]
		if c.len == capPosition || !strings.HasPrefix(r.s[s:], r.s[c.start:c.start+c.len]) {
			return -1
		}
		return r.try(s+c.len, p+2)
	}
	end := r.itemEnd(p)
	matches := s < len(r.s) && r.single(r.s[s], p, end)
	suffix := byte(0)
	if end < len(r.p) {
		suffix = r.p[end]
	}
	switch suffix {
	case '?':
		if matches {
			if e := r.try(s+1, end+1); e >= 0 {
				return e
			}
		}
		return r.try(s, end+1)
	case '*':
		return r.many(s, p, end)
	case '+':
		if !matches {
			return -1
		}
		return r.many(s+1, p, end)
	case '-':
		if e := r.try(s, end+1); e >= 0 || !matches {
			return e
		}
		return r.try(s+1, p)
	}
	if !matches {
		return -1
	}
	return r.try(s+1, end)
}

func (r *reference) many(s, p, end int) int {
	if s < len(r.s) && r.single(r.s[s], p, end) {
		if r.steps--; r.steps < 0 {
			panic(stop{errReferenceSteps})
		}
		if e := r.many(s+1, p, end); e >= 0 {
			return e
		}
	}
	return r.try(s, end+1)
}

func (r *reference) itemEnd(p int) int {
	switch r.p[p] {
	case '%':
		if p+1 == len(r.p) {
			panic(stop{errEndsInEscape})
		}
		return p + 2
	case '[':
		p++
		if p < len(r.p) && r.p[p] == '^' {
			p++
		}
		for first := true; first || p < len(r.p) && r.p[p] != ']'; first = false {
			if p < len(r.p)-1 && r.p[p] == '%' {
				p++
			}
			p++
		}
		if p >= len(r.p) {
			panic(stop{errMissingBracket})
		}
		return p + 1
	}
	return p + 1
}

func (r *reference) single(c byte, p, end int) bool {
	switch r.p[p] {
	case '.':
		return true
	case '%':
		return r.class(c, r.p[p+1])
	case '[':
		set := r.p[p+1 : end] // with the closing bracket
		want := true
		if set[0] == '^' {
			want, set = false, set[1:]
		}
		for len(set) > 1 {
			switch {
			case set[0] == '%':
				if r.class(c, set[1]) {
					return want
				}
				set = set[2:]
			case len(set) > 3 && set[1] == '-':
				if set[0] <= c && c <= set[2] {
					return want
				}
				set = set[3:]
			default:
				if set[0] == c {
					return want
				}
				set = set[1:]
			}
		}
		return !want
	}
	return r.p[p] == c
}

func (r *reference) class(c, letter byte) bool {
	lower, upper, digit := 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9'
	var in bool
	switch letter | 0x20 {
	case 'a':
		in = lower || upper
	case 'c':
		in = c < 32 || c == 127
	case 'd':
		in = digit
	case 'l':
		in = lower
	case 'p':
		in = c > 32 && c < 127 && !lower && !upper && !digit
	case 's':
		in = c == ' ' || 9 <= c && c <= 13
	case 'u':
		in = upper
	case 'w':
		in = lower || upper || digit
	case 'x':
		in = digit || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
	case 'z':
		in = c == 0
	default:
		return c == letter
	}
	isLetter := 'a' <= letter|0x20 && letter|0x20 <= 'z'
	if !isLetter {
		return c == letter
	}
	return in == (letter&0x20 != 0)
}
