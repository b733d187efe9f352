package policy

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
)

// PathMatch compares the path of the request, without the query, after
// percent-decoding it once; values are written decoded.
//
// BeginsWith, Equals and their complements compare values and path with exactly
// one leading slash each: "admin" and "/admin" are the same value, and "//admin"
// is compared as "/admin".
//
// Servers disagree about some paths: whether empty segments are kept, whether
// "\" separates segments, whether a segment ends at ";", and whether dot segments
// are resolved. A path with any of these has several interpretations, one for
// each combination. Rules with [Allow] match only if all interpretations do;
// other rules match if any does. So neither "/public/../admin" nor
// "/admin/../public" evades a rule about /admin, however the server interprets
// it.
//
// Whatever Env.FailOpen says, a request is answered with 400 if its decoded path
// contains NUL, at which some servers end the path, and with 414 if its path has
// several interpretations and, decoded, more than 4 KiB.
type PathMatch struct {
	Op            Op       // a text operator; required
	Values        []string // at least one, unless there are StringGroups; none empty
	StringGroups  []string // names of groups in [Env].StringGroups, whose keys are values as well
	CaseSensitive bool     // false: case is ignored
}

// maxAmbiguousPath is the length in bytes of the longest decoded path with
// several interpretations that is judged.
const maxAmbiguousPath = 4 << 10

// errPathNUL is the error of a request whose decoded path contains NUL.
var errPathNUL = errors.New("path contains NUL")

// pathText is one interpretation of a path.
type pathText struct {
	plain  text // as it is
	rooted text // with exactly one leading slash
}

// quirks is a set of the things that some servers do to a path.
type quirks uint8

const (
	mergeSlashes quirks = 1 << iota
	splitAtBackslash
	dropParameters
	resolveDots
)

// relevantQuirks returns the quirks that might change a path.
func relevantQuirks(path string) quirks {
	var c quirks
	if strings.IndexByte(path, '\\') >= 0 {
		c |= splitAtBackslash | mergeSlashes
	}
	if strings.IndexByte(path, ';') >= 0 {
		c |= dropParameters | mergeSlashes
	}
	if strings.Contains(path, "//") {
		c |= mergeSlashes
	}
	if strings.Contains(path, "/.") || strings.Contains(path, `\.`) {
		c |= resolveDots
	}
	return c
}

// pathReadings returns the interpretations of the path, the path as it is first.
func (s *subjects) pathReadings() ([]pathText, error) {
	if len(s.paths) > 0 {
		return s.paths, nil
	}
	path := s.path()
	matter := relevantQuirks(path)
	if strings.IndexByte(path, 0) >= 0 {
		return nil, errPathNUL
	}
	if matter != 0 && len(path) > maxAmbiguousPath {
		return nil, errURITooLong
	}
	for c := quirks(0); c <= matter; c++ {
		if c&^matter == 0 {
			s.addPath(path, c)
		}
	}
	return s.paths, nil
}

// path returns the decoded path.
func (s *subjects) path() string {
	if s.http.URL == nil || s.http.URL.Path == "" {
		return "/" // RFC 9112, section 3.2.1
	}
	return s.http.URL.Path
}

// canonicalPath returns the one path that all spellings of it have in common.
func (s *subjects) canonicalPath() ([]byte, error) {
	if _, err := s.pathReadings(); err != nil {
		return nil, err
	}
	path, start := s.path(), len(s.arena)
	s.arena = appendReading(s.arena, path, relevantQuirks(path)|mergeSlashes)
	return s.take(start).folded, nil
}

// addPath adds one interpretation unless it is there already. It keeps one more
// slash in front, so that both forms are parts of one text.
func (s *subjects) addPath(path string, c quirks) {
	start := len(s.arena)
	s.arena = append(s.arena, '/')
	if c == 0 {
		s.arena = append(s.arena, path...)
	} else {
		s.arena = appendReading(s.arena, path, c)
	}
	read := s.arena[start+1:]
	for _, p := range s.paths {
		if bytes.Equal(p.plain.exact, read) {
			s.arena = s.arena[:start]
			return
		}
	}
	slashes := len(read) - len(bytes.TrimLeft(read, "/"))
	t := s.take(start) // folding moves no leading slash
	s.paths = append(s.paths, pathText{
		plain:  text{t.exact[1:], t.folded[1:]},
		rooted: text{t.exact[slashes:], t.folded[slashes:]},
	})
}

// appendReading appends what a server with the quirks c makes of a path. The
// result is a sequence of segments, each with a slash in front; a path that
// ended with a slash or a dot segment ends with an empty segment.
func appendReading(dst []byte, path string, c quirks) []byte {
	root := len(dst)
	separators := "/"
	if c&splitAtBackslash != 0 {
		separators = `/\`
	}
	if path != "" && strings.IndexByte(separators, path[0]) >= 0 {
		path = path[1:]
	}
	for last := false; !last; {
		segment := path
		if i := strings.IndexAny(path, separators); i >= 0 {
			segment, path = path[:i], path[i+1:]
		} else {
			last = true
		}
		if c&dropParameters != 0 {
			segment, _, _ = strings.Cut(segment, ";")
		}
		dots := c&resolveDots != 0 && (segment == "." || segment == "..")
		if dots && segment == ".." {
			dst = dst[:root+max(0, bytes.LastIndexByte(dst[root:], '/'))]
		}
		if dots || c&mergeSlashes != 0 && segment == "" {
			if !last {
				continue
			}
			segment = ""
		}
		dst = append(dst, '/')
		dst = append(dst, segment...)
	}
	return dst
}

// pathCondition is the compiled form of a PathMatch.
type pathCondition struct {
	set                   *stringSet
	negate, rooted, every bool
}

func (m *PathMatch) compile(c *compiler, field string, every bool) *pathCondition {
	op := m.Op.positive()
	p := &pathCondition{negate: m.Op.negative(), rooted: op == BeginsWith || op == Equals, every: every}
	values := c.values(field, m.Op, m.Values, m.StringGroups, m.CaseSensitive)
	if p.rooted {
		for i, v := range values {
			values[i].text = append([]byte{'/'}, bytes.TrimLeft(v.text, "/")...)
		}
	}
	p.set = newStringSet(op, m.CaseSensitive, values, errURITooLong)
	c.useGroups(field, p.set, m.StringGroups, p.rooted)
	return p
}

func (p *pathCondition) text(reading pathText) text {
	if p.rooted {
		return reading.rooted
	}
	return reading.plain
}

func (p *pathCondition) holds(s *subjects) (bool, error) {
	readings, err := s.pathReadings()
	if err != nil {
		return false, err
	}
	for _, reading := range readings {
		in, err := p.set.contains(p.text(reading))
		if holds := in != p.negate; err != nil || holds != p.every {
			return holds, err
		}
	}
	return p.every, nil
}

// matching returns the first interpretation that matches a value.
func (p *pathCondition) matching(s *subjects) (text, bool) {
	readings, _ := s.pathReadings()
	for _, reading := range readings {
		if in, err := p.set.contains(p.text(reading)); in && err == nil {
			return p.text(reading), true
		}
	}
	return text{}, false
}

// shown is the path for an explanation.
func (p *pathCondition) shown(s *subjects) string {
	readings, _ := s.pathReadings()
	var b []byte
	for i, reading := range readings {
		if i > 0 {
			b = append(b, ", read otherwise "...)
		}
		b = strconv.AppendQuote(b, string(reading.plain.exact))
	}
	return string(b)
}
