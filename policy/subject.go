package policy

import (
	"net/http"
	"net/netip"
	"net/textproto"
	"unicode"
	"unicode/utf8"
)

// The subjects of one request. The rules of a policy often compare the same few
// parts of a request, so each part is decoded and case-folded once, when the
// first rule needs it, into one byte arena that later requests reuse. Comparing
// is then plain byte comparison, and evaluating does not allocate.

// maxArena is the size in bytes of the largest arena that is reused.
const maxArena = 64 << 10

// text is one subject in both forms that are compared.
type text struct {
	exact, folded []byte
}

// subjects is the scratch of one evaluation.
type subjects struct {
	http           *http.Request
	tx             Transaction
	client, source netip.Addr  // normalized
	port           uint16      // of the local address
	status         int         // of the response
	response       http.Header // nil before there is one
	arena          []byte      // backs the texts below
	paths          []pathText  // the readings of the path; empty: not prepared
	readings       pathScratch // what paths are made of
	queries        []text      // the readings of the query; empty: not prepared
	host           hostText
	fields         []fieldTexts // by slot of the policy's field list
}

// fieldTexts are the values of one header or cookie, in order.
type fieldTexts struct {
	ready bool
	texts []text
}

func (s *subjects) start(tx Transaction) {
	s.http = tx.Original()
	s.tx = tx
	s.client = normalize(tx.Client().Addr())
	s.source = normalize(tx.Source().Addr())
	s.port = tx.Local().Port()
}

// protocol returns the protocol that the client used.
func (s *subjects) protocol() Protocol {
	if s.tx.Encrypted() {
		return HTTPS
	}
	return HTTP
}

// reset drops the request. It reports false if the arena is too large to reuse.
func (s *subjects) reset() bool {
	if cap(s.arena) > maxArena {
		return false
	}
	s.tx, s.http, s.response = nil, nil, nil
	s.arena = s.arena[:0]
	s.readings.reset()
	s.paths, s.queries, s.host.ready = s.paths[:0], s.queries[:0], false
	for i := range s.fields {
		s.fields[i].ready = false
		s.fields[i].texts = s.fields[i].texts[:0]
	}
	return true
}

// take makes a text of the bytes of the arena from start on. Texts stay valid
// if the arena is reallocated: they refer to the old array.
func (s *subjects) take(start int) text {
	exact := s.arena[start:len(s.arena):len(s.arena)]
	if isFolded(exact) {
		return text{exact, exact}
	}
	start = len(s.arena)
	s.arena = appendFolded(s.arena, exact)
	return text{exact, s.arena[start:len(s.arena):len(s.arena)]}
}

func (s *subjects) copy(v string) text {
	start := len(s.arena)
	s.arena = append(s.arena, v...)
	return s.take(start)
}

// field returns the values of the header or cookie in a slot; none if it is
// missing.
func (s *subjects) field(slot int, f fieldName) []text {
	v := &s.fields[slot]
	if !v.ready {
		v.ready = true
		if f.response {
			for _, value := range s.response[f.name] {
				v.texts = append(v.texts, s.copy(textproto.TrimString(value)))
			}
			return v.texts
		}
		f.each(s.http, func(value string) { v.texts = append(v.texts, s.copy(value)) })
	}
	return v.texts
}

// fold returns the representative of all spellings of s that differ in case
// only. It follows Unicode's simple folding, as (?i) of package regexp does;
// bytes that are not UTF-8 stand for themselves.
func fold(s string) []byte { return appendFolded(nil, []byte(s)) }

func isFolded(b []byte) bool {
	for _, c := range b {
		if c >= utf8.RuneSelf || 'A' <= c && c <= 'Z' {
			return false
		}
	}
	return true
}

func appendFolded(dst, src []byte) []byte {
	for i := 0; i < len(src); {
		c := src[i]
		if c < utf8.RuneSelf {
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			dst = append(dst, c)
			i++
			continue
		}
		r, n := utf8.DecodeRune(src[i:])
		if r == utf8.RuneError && n == 1 {
			dst = append(dst, c)
		} else {
			dst = utf8.AppendRune(dst, foldRune(r))
		}
		i += n
	}
	return dst
}

// foldRune returns the least rune of r's folding orbit, in lower case if that
// is an ASCII letter.
func foldRune(r rune) rune {
	least := r
	for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
		least = min(least, next)
	}
	if 'A' <= least && least <= 'Z' {
		least += 'a' - 'A'
	}
	return least
}

// appendUnescaped percent-decodes s once. Malformed escapes stay as they are.
func appendUnescaped(dst []byte, s string, plusIsSpace bool) []byte {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '%' && i+2 < len(s) && ishex(s[i+1]) && ishex(s[i+2]):
			dst = append(dst, unhex(s[i+1])<<4|unhex(s[i+2]))
			i += 2
		case c == '+' && plusIsSpace:
			dst = append(dst, ' ')
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

func ishex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f'
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return (c | 0x20) - 'a' + 10
}
