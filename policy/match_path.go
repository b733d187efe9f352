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
// one leading slash each: "admin" and "/admin" are the same value, and
// "//admin" is compared as "/admin".
//
// Servers disagree about some paths: whether empty segments count, whether "\"
// separates segments, whether a segment ends at ";", whether dot segments have
// been resolved, and whether all this is done before "%2f", "%5c", "%3b" and
// "%2e" are decoded, or after it, or both. A server that never decodes some of
// "%2f", "%5c" and "%3b" has them in its path. A path with any of these has
// several readings, one for each combination. A match in an [Allow] rule is
// true only if it is true for all readings; a match in any other rule is true
// if it is true for one. So none of "/public/../admin", "/admin/../public" and
// "/public%2fx/../admin" slips past a rule about /admin, whichever way the
// server takes it.
//
// A path with NUL cannot be judged, nor one with several readings that is
// longer than 4 KiB, nor one with more than 128 readings or whose readings
// together are longer than about 64 KiB. The request is answered with 400 for
// NUL and with 414 for the others, whatever Env.FailOpen says.
type PathMatch struct {
	Op            Op       // a text operator; required
	Values        []string // at least one, unless there are StringGroups; none empty
	StringGroups  []string // names of groups in [Env].StringGroups, whose keys are values as well
	CaseSensitive bool     // false: case is ignored
}

// maxAmbiguousPath is the length in bytes of the longest decoded path with
// several interpretations that is judged.
const maxAmbiguousPath = 4 << 10

// Limits of the readings of a path that is judged.
const (
	maxReadings     = 128
	maxReadingBytes = 16 * (maxAmbiguousPath + 1) // in all
)

// errPathNUL is the error of a request whose decoded path contains NUL, at
// which some servers end the path.
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

// customsThatMatter returns those that might change a path.
func customsThatMatter(path []byte) quirks {
	var c quirks
	if bytes.IndexByte(path, '\\') >= 0 {
		c |= splitAtBackslash | mergeSlashes
	}
	if bytes.IndexByte(path, ';') >= 0 {
		c |= dropParameters | mergeSlashes
	}
	if bytes.Contains(path, []byte("//")) {
		c |= mergeSlashes
	}
	if bytes.Contains(path, []byte("/.")) || bytes.Contains(path, []byte(`\.`)) {
		c |= resolveDots
	}
	return c
}

// escapes is a set of the percent-encoded bytes that some servers take for
// letters when they split a path.
type escapes uint8

const (
	escapedSlash escapes = 1 << iota
	escapedBackslash
	escapedSemicolon
	escapedDot
	escapedPercent // never a letter
	allEscapes     = 1<<iota - 1
)

func escapeOf(c byte) escapes {
	switch c {
	case '/':
		return escapedSlash
	case '\\':
		return escapedBackslash
	case ';':
		return escapedSemicolon
	case '.':
		return escapedDot
	case '%':
		return escapedPercent
	}
	return 0
}

// pathScratch is what readings are made of.
type pathScratch struct {
	written []byte // the path with the escapes of allEscapes only
	partly  []byte // with some of them decoded
	read    []byte // with a quirks applied
	bases   int    // number of the first readings: those that differ by what came before decoding
	bytes   int    // in all readings
	err     error  // the path cannot be judged
}

// reset forgets the path, and buffers that are longer than a path that is
// judged makes them.
func (p *pathScratch) reset() {
	if cap(p.written)+cap(p.read) > maxArena {
		*p = pathScratch{}
	}
	p.bases, p.bytes, p.err = 0, 0, nil
}

// pathReadings returns the readings of the path, the path as it is first.
func (s *subjects) pathReadings() ([]pathText, error) {
	if len(s.paths) > 0 || s.readings.err != nil {
		return s.paths, s.readings.err
	}
	if s.readings.err = s.readPath(); s.readings.err != nil {
		s.paths = s.paths[:0]
	}
	return s.paths, s.readings.err
}

// readPath makes the readings. The bases come first: the path as it is, and
// the paths of servers that apply some quirks before they decode some
// escapes. Servers that apply quirks to a decoded path make more readings of
// each base. Servers that do not decode some escapes have them in their paths.
func (s *subjects) readPath() error {
	path := s.path()
	if strings.IndexByte(path, 0) >= 0 {
		return errPathNUL
	}
	start := len(s.arena)
	s.arena = append(append(s.arena, '/'), path...)
	s.addPath(start)
	s.readings.bases = 1
	if customsThatMatter(s.paths[0].plain.exact) == 0 && !s.escaped() {
		return nil
	}
	if len(path) > maxAmbiguousPath {
		return errURITooLong
	}
	found := s.writePath(path)
	if !s.addWritten(found, allEscapes) {
		return errURITooLong
	}
	s.readings.bases = len(s.paths)
	if found&escapedSlash != 0 && !s.addWritten(found, allEscapes&^escapedSlash) {
		return errURITooLong
	}
	for i := range len(s.paths) {
		if !s.addReadings(s.paths[i].plain.exact) {
			return errURITooLong
		}
	}
	if found&^escapedDot != 0 && !s.addWritten(found, escapedDot|escapedPercent) {
		return errURITooLong
	}
	return nil
}

// path returns the decoded path.
func (s *subjects) path() string {
	if s.http.URL == nil || s.http.URL.Path == "" {
		return "/" // RFC 9112, section 3.2.1
	}
	return s.http.URL.Path
}

// escaped reports whether the path came with an escape that might be a letter.
func (s *subjects) escaped() bool {
	if s.http.URL == nil {
		return false
	}
	for raw := s.http.URL.RawPath; ; {
		i := strings.IndexByte(raw, '%')
		if i < 0 || i+2 >= len(raw) {
			return false
		}
		if ishex(raw[i+1]) && ishex(raw[i+2]) && escapeOf(unhex(raw[i+1])<<4|unhex(raw[i+2]))&^escapedPercent != 0 {
			return true
		}
		raw = raw[i+1:]
	}
}

// writePath prepares the path as a server gets it, and returns the escapes in
// it that might be letters. A backslash is sent as an escape.
func (s *subjects) writePath(path string) (found escapes) {
	p := &s.readings
	if s.http.URL != nil && s.http.URL.RawPath != "" {
		p.written, found = appendWritten(p.written[:0], s.http.URL.RawPath, true)
		p.read = appendDecoded(p.read[:0], p.written, allEscapes)
		if string(p.read) == path {
			return found
		}
	}
	p.written, found = appendWritten(p.written[:0], path, false)
	return found
}

// appendWritten appends a path, escaped or not, in which only bytes of
// allEscapes are escaped: each percent sign and backslash, and the others that
// were.
func appendWritten(dst []byte, path string, escaped bool) ([]byte, escapes) {
	var found escapes
	for i := 0; i < len(path); i++ {
		c, n := path[i], 1
		if escaped && c == '%' && i+2 < len(path) && ishex(path[i+1]) && ishex(path[i+2]) {
			c, n = unhex(path[i+1])<<4|unhex(path[i+2]), 3
		}
		switch e := escapeOf(c); {
		case e != 0 && n == 3:
			dst = append(dst, path[i:i+3]...)
			found |= e
		case c == '%':
			dst = append(dst, "%25"...)
		case c == '\\':
			dst = append(dst, "%5C"...)
			found |= e
		default:
			dst = append(dst, c)
		}
		i += n - 1
	}
	return dst, found &^ escapedPercent
}

// appendDecoded appends what appendWritten has made, with some escapes
// decoded.
func appendDecoded(dst, written []byte, which escapes) []byte {
	for i := 0; i < len(written); i++ {
		c := written[i]
		if c != '%' {
			dst = append(dst, c)
			continue
		}
		if c = unhex(written[i+1])<<4 | unhex(written[i+2]); escapeOf(c)&which != 0 {
			dst = append(dst, c)
		} else {
			dst = append(dst, written[i:i+3]...)
		}
		i += 2
	}
	return dst
}

// addWritten adds the paths of servers that decode some of the escapes found,
// then apply some quirks, then decode more. It reports false if there are too
// many.
func (s *subjects) addWritten(found, more escapes) bool {
	p := &s.readings
	for first := escapes(0); first <= found; first++ {
		if first&^found != 0 {
			continue
		}
		p.partly = appendDecoded(p.partly[:0], p.written, first)
		matter := customsThatMatter(p.partly)
		for c := quirks(0); c <= matter; c++ {
			if c&^matter != 0 {
				continue
			}
			p.read = appendReading(p.read[:0], p.partly, c)
			start := len(s.arena)
			s.arena = appendDecoded(append(s.arena, '/'), p.read, more)
			if !s.addPath(start) {
				return false
			}
		}
	}
	return true
}

// addReadings adds the paths of servers that apply some quirks to a decoded
// path. It reports false if there are too many.
func (s *subjects) addReadings(path []byte) bool {
	matter := customsThatMatter(path)
	for c := quirks(1); c <= matter; c++ {
		if c&^matter != 0 {
			continue
		}
		start := len(s.arena)
		s.arena = appendReading(append(s.arena, '/'), path, c)
		if !s.addPath(start) {
			return false
		}
	}
	return true
}

// addPath adds the reading that was appended to the arena from start on,
// unless it is there already. One more slash stands in front of it, so that
// both forms are parts of one text. It reports false if there are too many.
func (s *subjects) addPath(start int) bool {
	read := s.arena[start+1:]
	for _, p := range s.paths {
		if bytes.Equal(p.plain.exact, read) {
			s.arena = s.arena[:start]
			return true
		}
	}
	s.readings.bytes += len(read)
	if len(s.paths) > 0 && (len(s.paths) >= maxReadings || s.readings.bytes > maxReadingBytes) {
		return false
	}
	slashes := len(read) - len(bytes.TrimLeft(read, "/"))
	t := s.take(start) // folding moves no leading slash
	s.paths = append(s.paths, pathText{
		plain:  text{t.exact[1:], t.folded[1:]},
		rooted: text{t.exact[slashes:], t.folded[slashes:]},
	})
	return true
}

// ambiguousPath stands for all paths without a plainest one. No path is NUL.
var ambiguousPath = []byte{0}

// plainestPath returns the one path that all spellings of it come to. Paths
// that come to different ones, depending on what a server decodes first, share
// one: nobody who varies them gets around a limit for one path.
func (s *subjects) plainestPath() ([]byte, error) {
	readings, err := s.pathReadings()
	if err != nil {
		return nil, err
	}
	var plainest []byte
	for i, base := range readings[:s.readings.bases] {
		path, start := base.plain.exact, len(s.arena)
		s.arena = appendReading(s.arena, path, customsThatMatter(path)|mergeSlashes)
		t := s.take(start).folded
		if i > 0 {
			s.arena = s.arena[:start]
			if !bytes.Equal(t, plainest) {
				return ambiguousPath, nil
			}
			continue
		}
		plainest = t
	}
	return plainest, nil
}

// appendReading appends what a server with the quirks c makes of a path. The
// result is a sequence of segments, each with a slash in front; a path that
// ended with a slash or a dot segment ends with an empty segment.
func appendReading(dst, path []byte, c quirks) []byte {
	root := len(dst)
	separators := "/"
	if c&splitAtBackslash != 0 {
		separators = `/\`
	}
	if len(path) > 0 && strings.IndexByte(separators, path[0]) >= 0 {
		path = path[1:]
	}
	for last := false; !last; {
		segment := path
		if i := bytes.IndexAny(path, separators); i >= 0 {
			segment, path = path[:i], path[i+1:]
		} else {
			last = true
		}
		if c&dropParameters != 0 {
			segment, _, _ = bytes.Cut(segment, []byte(";"))
		}
		up := string(segment) == ".."
		dots := c&resolveDots != 0 && (up || string(segment) == ".")
		if dots && up {
			dst = dst[:root+max(0, bytes.LastIndexByte(dst[root:], '/'))]
		}
		if dots || c&mergeSlashes != 0 && len(segment) == 0 {
			if !last {
				continue
			}
			segment = nil
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
