package datascripttest

import (
	"strings"

	"github.com/limpetlb/limpet/datascript"
)

// An expectation is a comment of a script which says that its line fails:
//
//	avi.pool.select("nope") --> pool "nope" not found
type expectation struct {
	script string
	event  datascript.Event // zero in a listing
	line   int              // of the script, counted from 1
	text   string           // a part of the message
	source *section
	met    bool
}

// expectations finds the expectations of a script's chunk.
func (ch chunkSource) expectations(script string) []*expectation {
	if ch.deployed {
		return nil
	}
	var list []*expectation
	for line, comment := range luaComments(ch.section.text) {
		if text, ok := strings.CutPrefix(comment, ">"); ok && strings.TrimSpace(text) != "" {
			list = append(list, &expectation{
				script: script, event: ch.event, line: line, text: strings.TrimSpace(text), source: ch.section,
			})
		}
	}
	return list
}

// meets reports whether a failure is the one expected.
func (x *expectation) meets(script string, ev datascript.Event, line int, message string) bool {
	return x.script == script && (x.event == ev || x.event == 0) && x.line == line && strings.Contains(message, x.text)
}

// luaComments goes through the comments of a script that end with their line:
// the number of the line, counted from 1, and the text behind the hyphens.
func luaComments(source string) func(yield func(int, string) bool) {
	return func(yield func(int, string) bool) {
		line := 1
		skip := func(n int) {
			line += strings.Count(source[:n], "\n")
			source = source[n:]
		}
		for source != "" {
			switch {
			case strings.HasPrefix(source, "--"):
				source = source[2:]
				if n := longBracket(source); n > 0 {
					skip(n)
					continue
				}
				comment, _, _ := strings.Cut(source, "\n")
				if !yield(line, comment) {
					return
				}
				source = source[len(comment):]
			case source[0] == '"' || source[0] == '\'':
				skip(quotedString(source))
			default:
				skip(max(longBracket(source), 1))
			}
		}
	}
}

// longBracket returns the length of the long string or comment that s begins
// with, 0 if it begins with none.
func longBracket(s string) int {
	if s == "" || s[0] != '[' {
		return 0
	}
	level := len(s[1:]) - len(strings.TrimLeft(s[1:], "="))
	if !strings.HasPrefix(s[1+level:], "[") {
		return 0
	}
	closing := "]" + s[1:1+level] + "]"
	if i := strings.Index(s[level+2:], closing); i >= 0 {
		return level + 2 + i + len(closing)
	}
	return len(s)
}

// quotedString returns the length of the string that s begins with. One that is
// not closed ends with its line.
func quotedString(s string) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case s[0]:
			return i + 1
		case '\n':
			return i
		}
	}
	return len(s)
}
