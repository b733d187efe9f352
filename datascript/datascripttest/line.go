package datascripttest

import (
	"fmt"
	"iter"
	"strconv"
	"strings"
	"unicode"
)

// A section is a file of a case: some lines of text, and where they stand.
type section struct {
	file string // the case's
	name string // of the section
	line int    // of the first line of text, counted from 1 in the case's file
	text string
}

// errorf makes an error at line n of the section, counted from 0.
func (s *section) errorf(n int, format string, args ...any) error {
	return fmt.Errorf("%s:%d: %s: %s", s.file, s.line+n, s.name, fmt.Sprintf(format, args...))
}

// lines goes through the lines, counted from 0, without their line breaks.
func (s *section) lines() iter.Seq2[int, string] {
	return func(yield func(int, string) bool) {
		n := 0
		for line := range strings.Lines(s.text) {
			if !yield(n, strings.TrimSuffix(line, "\n")) {
				return
			}
			n++
		}
	}
}

// statements goes through the words of the lines that are neither empty nor
// comments. It ends at the first error.
func (s *section) statements(do func(words []string) error) error {
	for n, line := range s.lines() {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		words, err := splitWords(line)
		if err == nil {
			err = do(words)
		}
		if err != nil {
			return s.errorf(n, "%v", err)
		}
	}
	return nil
}

// splitWords splits a line at blanks. A word may be quoted like a string of Go.
func splitWords(line string) (words []string, err error) {
	for {
		if line = strings.TrimLeft(line, " \t"); line == "" {
			return words, nil
		}
		if line[0] != '"' {
			end := strings.IndexAny(line, " \t")
			if end < 0 {
				end = len(line)
			}
			if strings.Contains(line[:end], `"`) {
				return nil, fmt.Errorf("quotation mark within the word %s", line[:end])
			}
			words = append(words, line[:end])
			line = line[end:]
			continue
		}
		quoted, err := strconv.QuotedPrefix(line)
		if err != nil {
			return nil, fmt.Errorf("%s is not a quoted word", line)
		}
		if line = line[len(quoted):]; line != "" && line[0] != ' ' && line[0] != '\t' {
			return nil, fmt.Errorf("no blank after the word %s", quoted)
		}
		word, _ := strconv.Unquote(quoted) // which it is
		words = append(words, word)
	}
}

// joinWords is the reverse of splitWords.
func joinWords(words ...string) string {
	for i, w := range words {
		if w == "" || w[0] == '#' || !plainWord(w) {
			words[i] = strconv.Quote(w)
		}
	}
	return strings.Join(words, " ")
}

func plainWord(w string) bool {
	return !strings.ContainsFunc(w, func(r rune) bool {
		return r == '"' || r == unicode.ReplacementChar || unicode.IsSpace(r) || !unicode.IsPrint(r)
	})
}
