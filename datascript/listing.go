package datascript

import (
	"slices"
	"strings"
)

// splitListing cuts a listing at its event headings: comment lines that hold
// nothing but the name of an event, such as
//
//	-- HTTP Request Event --
//	-- HTTP_RESP
//
// Each part keeps its place in the listing through Chunk.Line.
func splitListing(name, source string) ([]Chunk, *CompileError) {
	var parts []Chunk
	line, scan := 0, lineScanner{}
	for text := range strings.Lines(source) {
		line++
		inLong := scan.inLongBracket()
		scan.line(text)
		if !inLong {
			if ev, ok := ParseHeading(text); ok {
				if n := len(parts); n > 0 && parts[n-1].Event == ev {
					parts[n-1].Source += text // a comment within its own part
					continue
				}
				if slices.ContainsFunc(parts, func(c Chunk) bool { return c.Event == ev }) {
					return nil, &CompileError{Script: name, Event: ev, Line: line, Message: "a second heading for the same event"}
				}
				parts = append(parts, Chunk{Event: ev, Line: line + 1})
				continue
			}
		}
		if len(parts) == 0 {
			if trimmed := strings.TrimSpace(text); trimmed != "" && !strings.HasPrefix(trimmed, "--") && !inLong {
				return nil, &CompileError{Script: name, Line: line, Token: firstWord(trimmed),
					Message: "code before the first event heading (a comment line such as '-- HTTP_REQ')"}
			}
			continue
		}
		parts[len(parts)-1].Source += text
	}
	if len(parts) == 0 {
		return nil, &CompileError{Script: name, Message: "no event given and no event heading (a comment line such as '-- HTTP_REQ') found"}
	}
	return parts, nil
}

// ParseHeading returns the event that a line of a listing is the heading of:
// the line is a comment with nothing but the event's name, as [ParseEvent]
// accepts it, perhaps one of the words "event", "script" and "datascript"
// behind it, and ornaments around. ok is false for any other line.
func ParseHeading(line string) (ev Event, ok bool) {
	s, ok := strings.CutPrefix(strings.TrimSpace(line), "--")
	if !ok || len(s) > 80 {
		return 0, false
	}
	s = strings.TrimSpace(strings.Trim(s, "-=* \t:"))
	if ev, ok := parseEvent(s); ok {
		return ev, true
	}
	for _, word := range []string{" event", " datascript", " script"} {
		if len(s) > len(word) && strings.EqualFold(s[len(s)-len(word):], word) {
			return parseEvent(s[:len(s)-len(word)])
		}
	}
	return 0, false
}

func firstWord(s string) string {
	if i := strings.IndexAny(s, " \t=(,;"); i > 0 {
		return s[:i]
	}
	return s
}

// lineScanner follows long brackets from line to line, so that a heading
// within a long string or comment is not taken for one.
type lineScanner struct {
	closing string // of the bracket that is open, such as "]==]"
}

func (s *lineScanner) inLongBracket() bool { return s.closing != "" }

func (s *lineScanner) line(text string) {
	for i := 0; i < len(text); {
		if s.closing != "" {
			j := strings.Index(text[i:], s.closing)
			if j < 0 {
				return
			}
			i += j + len(s.closing)
			s.closing = ""
			continue
		}
		switch c := text[i]; {
		case c == '"' || c == '\'':
			for i++; i < len(text) && text[i] != c && text[i] != '\n'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
			i++
		case strings.HasPrefix(text[i:], "--"):
			if i += 2; !s.open(text, &i) {
				return
			}
		case c == '[':
			if !s.open(text, &i) {
				i++
			}
		default:
			i++
		}
	}
}

// open reports whether a long bracket opens at text[*i], and steps past it.
func (s *lineScanner) open(text string, i *int) bool {
	if *i >= len(text) || text[*i] != '[' {
		return false
	}
	rest := text[*i+1:]
	level := len(rest) - len(strings.TrimLeft(rest, "="))
	if level >= len(rest) || rest[level] != '[' {
		return false
	}
	s.closing = "]" + strings.Repeat("=", level) + "]"
	*i += level + 2
	return true
}
