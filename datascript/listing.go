package datascript

import (
	"fmt"
	"slices"
	"strings"
)

// splitListing cuts a listing at its event headings: comment lines that hold
// nothing but the name of an event, such as
//
//	-- HTTP Request Event --
//	-- HTTP_RESP
//
// Each part keeps its place in the listing through Chunk.Line; first is the
// number of the listing's first line.
//
// A comment that is nearly a heading stays a comment, and is a warning.
func splitListing(name, source string, first int) (parts []Chunk, near []Warning, fault *CompileError) {
	line, scan := first-1, lineScanner{}
	hint := func() string {
		if len(near) == 0 {
			return ""
		}
		return fmt.Sprintf("; line %d: %s", near[0].Line, near[0].Message)
	}
	for text := range strings.Lines(source) {
		line++
		inLong := scan.inLongBracket()
		scan.line(text)
		if h := parseHeading(text); !inLong && h.key != "" {
			switch ev, ok := eventOf(h.key); {
			case ok:
				if n := len(parts); n > 0 && parts[n-1].Event == ev {
					parts[n-1].Source += text // a comment within its own part
					continue
				}
				if slices.ContainsFunc(parts, func(c Chunk) bool { return c.Event == ev }) {
					return nil, nil, &CompileError{Script: name, Event: ev, Line: line, Message: "a second heading for the same event"}
				}
				parts = append(parts, Chunk{Event: ev, Line: line + 1})
				continue
			case h.other() != "":
				cause := &UnsupportedEventError{h.other()}
				return nil, nil, &CompileError{Script: name, Line: line, Message: cause.Error(), Cause: cause}
			}
			if likely := likelyEvent(h.key); likely != "" {
				w := Warning{Line: line, Message: fmt.Sprintf("%q is not an event; did you mean %s?", strings.TrimSpace(text), likely)}
				if n := len(parts); n > 0 {
					w.Event = parts[n-1].Event
				}
				near = append(near, w)
			}
		}
		if len(parts) == 0 {
			if trimmed := strings.TrimSpace(text); trimmed != "" && !strings.HasPrefix(trimmed, "--") && !inLong {
				return nil, nil, &CompileError{Script: name, Line: line, Token: firstWord(trimmed),
					Message: "code before the first event heading (a comment line such as '-- HTTP_REQ')" + hint()}
			}
			continue
		}
		parts[len(parts)-1].Source += text
	}
	if len(parts) == 0 {
		return nil, nil, &CompileError{Script: name, Message: "no event given and no event heading (a comment line such as '-- HTTP_REQ') found" + hint()}
	}
	return parts, near, nil
}

// strayHeadings warns of headings in a chunk whose event is given: its code is
// for that event, and so is what stands below the heading of another.
func strayHeadings(c Chunk) (stray []Warning) {
	line, scan := max(c.Line, 1)-1, lineScanner{}
	for text := range strings.Lines(c.Source) {
		line++
		inLong := scan.inLongBracket()
		scan.line(text)
		h := parseHeading(text)
		ev, ok := eventOf(h.key)
		if inLong || !ok && h.other() == "" || ev == c.Event {
			continue
		}
		stray = append(stray, Warning{Event: c.Event, Line: line,
			Message: fmt.Sprintf("%q is only a comment here: all of the code runs in %v", strings.TrimSpace(text), c.Event)})
	}
	return stray
}

// ParseHeading returns the event that a line of a listing is the heading of:
// the line is a comment with nothing but the event's name, as [ParseEvent]
// accepts it, perhaps one of the words "event", "script" and "datascript"
// behind it, and ornaments around. ok is false for any other line.
func ParseHeading(line string) (ev Event, ok bool) { return eventOf(parseHeading(line).key) }

// A heading is a comment that may be one.
type heading struct {
	key string // as eventKey makes it; empty if the line is something else
	// words reports that it could be a sentence as well: its words stand
	// apart, and none of them says that this is an event.
	words bool
}

// other returns the event of another protocol that the line is the heading of.
// Some of their names, such as "client closed", are good comments, too.
func (h heading) other() string {
	if h.words {
		return ""
	}
	return otherEvent(h.key)
}

func parseHeading(line string) heading {
	s, ok := strings.CutPrefix(strings.TrimSpace(line), "--")
	if !ok || len(s) > 80 {
		return heading{}
	}
	s = strings.TrimSpace(strings.Trim(s, "-=* \t:"))
	if _, ok := eventOf(eventKey(s)); ok {
		return heading{key: eventKey(s)}
	}
	for _, word := range []string{" event", " datascript", " script"} {
		if len(s) > len(word) && strings.EqualFold(s[len(s)-len(word):], word) {
			return heading{key: eventKey(s[:len(s)-len(word)])}
		}
	}
	return heading{key: eventKey(s), words: strings.Contains(s, " ")}
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
