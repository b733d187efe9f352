package archtest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"unicode/utf8"
)

// commentWidth is how many columns a line of a comment may have. A tab counts
// as four.
const commentWidth = 80

// CheckWidth finds comments whose lines are too wide. The linters for long
// lines cannot leave code alone. A line may be wider if it is one word, such as
// an address, or is indented, as code and tables are; so may a comment behind
// code.
func CheckWidth(m *Module) []Finding {
	var found []Finding
	for _, p := range m.Packages {
		for _, files := range [][]*File{p.Files, p.Tests} {
			for _, f := range files {
				found = append(found, m.wideComments(f)...)
			}
		}
	}
	return found
}

// isOutput matches the comment with the output of an example.
var isOutput = regexp.MustCompile(`(?im)^(unordered )?output:`)

func (m *Module) wideComments(f *File) []Finding {
	source, err := os.ReadFile(filepath.Join(m.Dir, filepath.FromSlash(f.Name)))
	if err != nil {
		return []Finding{m.finding(f.Package, "%v", err)}
	}
	lines := strings.Split(string(source), "\n")
	var found []Finding
	for _, group := range f.Comments {
		if isOutput.MatchString(group.Text()) {
			continue // its lines are those of the program
		}
		for _, c := range group.List {
			text, ok := strings.CutPrefix(c.Text, "// ")
			if !ok || strings.HasPrefix(text, " ") || !strings.Contains(text, " ") {
				continue
			}
			tabs, alone := strings.CutSuffix(lines[m.fset.Position(c.Slash).Line-1], c.Text)
			width := 4*len(tabs) + utf8.RuneCountInString(c.Text)
			if alone && strings.Trim(tabs, "\t") == "" && width > commentWidth {
				found = append(found, m.finding(c.Slash, "a comment of %d columns, more than %d", width, commentWidth))
			}
		}
	}
	return found
}
