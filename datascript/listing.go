package datascript

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// splitListing cuts a listing at its event headings: comment lines with only
// the name of an event, such as
//
//	-- HTTP Request Event --
//	-- HTTP_RESP
//
// Each part keeps its position in the listing through Chunk.Line; first is the
// number of the listing's first line. What stands below a heading with a fault
// is in no part.
//
// A comment that is similar to a heading stays a comment and causes a warning.
// So does one that names an event among other words, if the code that follows
// runs in another event.
func splitListing(name, source string, first int) (parts []Chunk, near []Warning, faults []*CompileError) {
	line, scan := first-1, lineScanner{}
	skipping := false // the code below a heading with a fault
	fault := func(e CompileError) {
		e.Script = name
		faults = append(faults, &e)
		skipping = true
	}
	var above, named []Warning        // above the first heading; since code was seen last
	mentions := map[Event][]Warning{} // of events among other words, which may have headings elsewhere
	hint := func() string {
		if len(above) == 0 {
			return ""
		}
		return fmt.Sprintf("; line %d: %s", above[0].Line, above[0].Message)
	}
	for text := range strings.Lines(source) {
		if len(faults) >= maxListingFaults {
			break
		}
		line++
		inLong, inComment := scan.inLongBracket(), scan.inComment()
		scan.line(text)
		if h := parseHeading(text); !inLong && h.key != "" {
			switch ev, ok := eventOf(h.key); {
			case ok:
				named = nil // no code is below those
				if n := len(parts); !skipping && n > 0 && parts[n-1].Event == ev {
					parts[n-1].Source += text // a comment within its own part
					continue
				}
				if slices.ContainsFunc(parts, func(c Chunk) bool { return c.Event == ev }) {
					fault(CompileError{Event: ev, Line: line, Message: "a second heading for the same event"})
					continue
				}
				parts, skipping = append(parts, Chunk{Event: ev, Line: line + 1}), false
				continue
			case h.other() != "":
				cause := &UnsupportedEventError{h.other()}
				fault(CompileError{Line: line, Message: cause.Error(), Cause: cause})
				continue
			}
			if likely := likelyEvent(h.key); likely != "" {
				w := Warning{Line: line, Message: fmt.Sprintf("%q is not an event; did you mean %s?", strings.TrimSpace(text), likely)}
				if n := len(parts); n > 0 {
					w.Event = parts[n-1].Event
				}
				near = append(near, w)
				if len(parts) == 0 {
					above = append(above, w)
				}
			}
		}
		if skipping {
			continue
		}
		isCode := !inComment && isCode(text)
		if isCode {
			near, named = append(near, named...), nil
		}
		if m := mentionIn(text, inLong, inComment); m.name != "" {
			if n := len(parts); n == 0 {
				above = append(above, Warning{Line: line, Message: fmt.Sprintf("%s is no heading: the heading is \"-- %s\"", shortened(text), m.name)})
			} else if at := parts[n-1].Event; m.event != at && !hasLine(near, line) {
				w := Warning{Event: at, Line: line,
					Message: fmt.Sprintf("%s is no heading, so the code below it runs in %v: the heading is \"-- %s\"", shortened(text), at, m.name)}
				named = append(named, w)
				if !m.leads {
					mentions[m.event] = append(mentions[m.event], w)
				}
			}
		}
		if len(parts) == 0 {
			if trimmed := strings.TrimSpace(text); isCode && !inLong {
				fault(CompileError{Line: line, Token: firstWord(trimmed),
					Message: "code before the first event heading (a comment line such as '-- HTTP_REQ')" + hint()})
			}
			continue
		}
		parts[len(parts)-1].Source += text
	}
	if len(parts)+len(faults) == 0 {
		fault(CompileError{Message: "no event given and no event heading (a comment line such as '-- HTTP_REQ') found" + hint()})
	}
	for _, part := range parts {
		near = slices.DeleteFunc(near, func(w Warning) bool { return slices.Contains(mentions[part.Event], w) })
	}
	return parts, near, faults
}

// maxListingFaults bounds the faults of headings that are reported.
const maxListingFaults = 100

// strayHeadings warns of headings in a chunk whose event is given: all its code
// is for that event, also below the heading of another event, or below a
// comment that begins with the name of another.
func strayHeadings(c Chunk) (stray []Warning) {
	line, scan := max(c.Line, 1)-1, lineScanner{}
	var named []Warning // since code was seen last
	for text := range strings.Lines(c.Source) {
		line++
		inLong, inComment := scan.inLongBracket(), scan.inComment()
		scan.line(text)
		if !inComment && isCode(text) {
			stray, named = append(stray, named...), nil
		}
		w := Warning{Event: c.Event, Line: line,
			Message: fmt.Sprintf("%s is only a comment here: all of the code runs in %v", shortened(text), c.Event)}
		h := parseHeading(text)
		if ev, ok := eventOf(h.key); !inLong && (ok || h.other() != "") {
			if ev != c.Event {
				stray = append(stray, w)
			}
		} else if m := mentionIn(text, inLong, inComment); m.leads && m.event != c.Event {
			named = append(named, w)
		}
	}
	return stray
}

// isCode reports whether a line that begins outside long comments has code.
func isCode(text string) bool {
	text = strings.TrimSpace(text)
	return text != "" && !strings.HasPrefix(text, "--")
}

func hasLine(list []Warning, line int) bool {
	return slices.ContainsFunc(list, func(w Warning) bool { return w.Line == line })
}

// shortened quotes a comment for a message.
func shortened(text string) string {
	const most = 80
	text = strings.TrimSpace(text)
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "..."
	}
	return strconv.Quote(text)
}

// A mention is an event that a comment names without being a heading.
type mention struct {
	name  string // the short one; empty if there is none
	event Event  // zero for those of other protocols
	leads bool   // the comment begins with it, as a heading would
}

// mentionIn returns the event that a comment on a separate line mentions: by a
// name such as HTTP_RESP anywhere, or by words such as "HTTP response" or
// "response" alone, perhaps numbered or with a remark behind it.
func mentionIn(line string, inLong, inComment bool) mention {
	text := strings.TrimSpace(line)
	if !inComment {
		var ok bool
		if text, ok = strings.CutPrefix(text, "--"); !ok || inLong {
			return mention{}
		}
	}
	if h := parseHeading(line); !inLong && h.key != "" {
		if _, ok := eventOf(h.key); ok || h.other() != "" {
			return mention{}
		}
	}
	if !inComment {
		leads := true
		for _, word := range strings.FieldsFunc(text, func(r rune) bool {
			return r != '_' && r != '-' && !unicode.IsLetter(r) && !unicode.IsDigit(r)
		}) {
			if word = strings.Trim(word, "-_"); strings.ContainsAny(word, "_-") {
				if name, ev := eventAmong(eventKey(word), false); name != "" {
					return mention{name, ev, leads}
				}
			}
			leads = leads && saysHeading(strings.ToUpper(word))
		}
	}
	text = strings.Trim(text, "-=*[] \t")
	for _, remark := range []string{":", " -", "--", "(", ";", ","} {
		text, _, _ = strings.Cut(text, remark)
	}
	name, ev := eventAmong(eventKey(strings.Join(strings.FieldsFunc(text, func(r rune) bool {
		return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r)
	}), "_")), true)
	return mention{name, ev, name != ""}
}

// eventAmong finds the event that a key names, ignoring words such as "event".
// bare also accepts events without "HTTP", but no events of other protocols,
// since some of their names are plausible comments.
func eventAmong(key string, bare bool) (name string, ev Event) {
	parts := strings.Split(key, "_")
	for len(parts) > 0 && saysHeading(parts[0]) {
		parts = parts[1:]
	}
	for len(parts) > 0 && saysHeading(parts[len(parts)-1]) {
		parts = parts[:len(parts)-1]
	}
	key = strings.Join(parts, "_")
	ev, ok := eventOf(key)
	if !ok && bare && strings.HasPrefix(key, "RE") { // REQUEST, RESP_DATA
		ev, ok = eventOf("HTTP_" + key)
	}
	switch {
	case ok:
		return eventNames[ev], ev
	case bare:
		return "", 0
	}
	return otherEvent(key), 0
}

// saysHeading reports whether a word in capitals, or a number, may be beside
// the name of an event in a heading.
func saysHeading(word string) bool {
	return strings.Trim(word, "0123456789") == "" || slices.Contains(headingWords, word)
}

// headingWords are words beside the name of an event that do not turn it into a
// sentence.
var headingWords = []string{
	"EVENT", "EVENTS", "SCRIPT", "DATASCRIPT", "HANDLER", "HANDLING", "HOOK", "PHASE", "STAGE", "STEP", "PART", "SECTION", "CODE",
	"ON", "IN", "AT", "FOR", "THE", "BEGIN", "START",
}

// ParseHeading returns the event of a line of a listing that is a heading: a
// comment with only the event's name, as [ParseEvent] accepts it, perhaps with
// one of the words "event", "script" and "datascript" before or after it, and
// ornaments around. ok is false for any other line.
func ParseHeading(line string) (ev Event, ok bool) { return eventOf(parseHeading(line).key) }

// A heading is a comment that may be one.
type heading struct {
	key string // as eventKey makes it; empty if the line is something else
	// words reports that it could also be a sentence: its words are separate,
	// and none of them says that it is an event.
	words bool
}

// other returns the event of another protocol of which the line is the heading.
// Some of their names, such as "client closed", are plausible comments.
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
	for _, word := range []string{"event", "datascript", "script"} {
		n := len(word)
		if len(s) <= n+1 {
			continue
		}
		if strings.EqualFold(s[len(s)-n:], word) && strings.Contains(" _-", s[len(s)-n-1:len(s)-n]) {
			return heading{key: eventKey(s[:len(s)-n-1])}
		}
		if strings.EqualFold(s[:n], word) && strings.Contains(" _-:", s[n:n+1]) {
			if key := eventKey(strings.TrimLeft(s[n:], " _-:")); isEvent(key) {
				return heading{key: key}
			}
		}
	}
	return heading{key: eventKey(s), words: strings.Contains(s, " ")}
}

// isEvent reports whether a key is the name of an event, of another protocol as
// well.
func isEvent(key string) bool {
	_, ok := eventOf(key)
	return ok || otherEvent(key) != ""
}

func firstWord(s string) string {
	if i := strings.IndexAny(s, " \t=(,;"); i > 0 {
		return s[:i]
	}
	return s
}

// lineScanner follows long brackets from line to line, so that a line within a
// long string or comment is not taken for a heading.
type lineScanner struct {
	closing string // of the bracket that is open, such as "]==]"
	comment bool   // whether the last one is that of a comment
}

func (s *lineScanner) inLongBracket() bool { return s.closing != "" }

func (s *lineScanner) inComment() bool { return s.closing != "" && s.comment }

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
			s.comment = true
		case c == '[':
			if !s.open(text, &i) {
				i++
			} else {
				s.comment = false
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
