package assurance

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// A Document is what the tables of a Markdown file say.
type Document struct {
	Name   string  // of the file
	Groups []Group // in its order
}

// A Group is one heading of level two, with its table.
type Group struct {
	Name string // the heading
	Rows []Row  // of the table
}

// A Row is one guarantee. It has tests, or it is open.
type Row struct {
	Line int    // in the file, counted from 1
	ID   string // differs from those of the other rows
	Text string // the guarantee
	Note string // its figure; see Differs
	// Tests prove the guarantee.
	Tests []Test
	// Open is why there are no tests; empty if there are.
	Open string
}

// Differs reports whether the note says that the guarantee is kept in another
// way than its text might be read.
func (r *Row) Differs() bool { return strings.HasPrefix(r.Note, "differs: ") }

// A Test is the name of a test function, and perhaps of one of its subtests.
type Test struct {
	Package string // relative to the module; empty for the root package
	Name    string // of the function
	Subtest string // as go test prints it; empty for all
}

// String returns the name as documents spell it.
func (t Test) String() string {
	s := t.Package
	if s == "" {
		s = rootPackage
	}
	s += "." + t.Name
	if t.Subtest != "" {
		s += "/" + t.Subtest
	}
	return s
}

// rootPackage is what documents call the root package.
const rootPackage = "limpet"

// Proven counts the rows with tests, and Open those without.
func (g Group) Proven() int { return len(g.Rows) - g.Open() }

// Open counts the rows without tests.
func (g Group) Open() int { return g.count(func(r *Row) bool { return r.Open != "" }) }

func (g Group) count(counts func(*Row) bool) (n int) {
	for i := range g.Rows {
		if counts(&g.Rows[i]) {
			n++
		}
	}
	return n
}

// Summary says how many rows of each group are proven, a line each, and in the
// first line how many there are in all.
func (d *Document) Summary() string {
	var all Group
	var b strings.Builder
	for _, g := range d.Groups {
		fmt.Fprintf(&b, "\n%5d of %2d  %s%s", g.Proven(), len(g.Rows), g.Name, g.rest())
		all.Rows = append(all.Rows, g.Rows...)
	}
	return fmt.Sprintf("%s: %d of %d are proven%s", d.Name, all.Proven(), len(all.Rows), all.rest()) + b.String()
}

// rest says what else is to be said.
func (g Group) rest() (text string) {
	if n := g.count((*Row).Differs); n > 0 {
		text = fmt.Sprintf(", %d of them in another way", n)
	}
	if n := g.Open(); n > 0 {
		text += fmt.Sprintf(", %d open", n)
	}
	return text
}

var (
	idForm   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]*$`)
	testForm = regexp.MustCompile("^`([A-Za-z0-9_./-]+)\\.((?:Test|Fuzz|Example)[A-Za-z0-9_]*)(?:/([^`]+))?`$")
	ruleForm = regexp.MustCompile(`^\|(?: *:?-+:? *\|){4}$`)
)

// Parse reads a document. It is strict: each fault that it finds is in the
// error, with the name and the line. Text outside tables is not looked at.
func Parse(name, text string) (*Document, error) {
	d := &Document{Name: name}
	var faults []error
	ids := map[string]int{}
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		fault := func(format string, args ...any) {
			faults = append(faults, fmt.Errorf("%s:%d: %s", name, i+1, fmt.Sprintf(format, args...)))
		}
		if heading, ok := strings.CutPrefix(lines[i], "## "); ok {
			d.Groups = append(d.Groups, Group{Name: strings.TrimSpace(heading)})
			continue
		}
		if !strings.HasPrefix(strings.TrimSpace(lines[i]), "|") {
			continue
		}
		if len(d.Groups) == 0 {
			fault("a table above the first heading of level two")
			d.Groups = append(d.Groups, Group{})
		}
		// The two lines of the head, and then the rows.
		if len(cells(lines[i])) != 4 {
			fault("the head of a table has four cells: id, text, figure or note, tests")
		}
		if i++; i == len(lines) || !ruleForm.MatchString(lines[i]) {
			fault("the second line of a table is |---|---|---|---|")
			i--
		}
		g := &d.Groups[len(d.Groups)-1]
		for i++; i < len(lines) && strings.HasPrefix(strings.TrimSpace(lines[i]), "|"); i++ {
			row, err := parseRow(lines[i])
			if err != nil {
				fault("%v", err)
				continue
			}
			if first := ids[row.ID]; first != 0 {
				fault("%q is the id of line %d already", row.ID, first)
			}
			row.Line = i + 1
			ids[row.ID] = row.Line
			g.Rows = append(g.Rows, row)
		}
	}
	for _, g := range d.Groups {
		if len(g.Rows) > 0 {
			return d, errors.Join(faults...)
		}
	}
	return d, errors.Join(append(faults, fmt.Errorf("%s: no rows", name))...)
}

// cells splits a line of a table; nil if it is none. A bar within a cell is
// written \|.
func cells(line string) []string {
	const bar = "\x00"
	inner, begins := strings.CutPrefix(strings.TrimSpace(strings.ReplaceAll(line, `\|`, bar)), "|")
	inner, ends := strings.CutSuffix(inner, "|")
	if !begins || !ends {
		return nil
	}
	split := strings.Split(inner, "|")
	for i, c := range split {
		split[i] = strings.ReplaceAll(strings.TrimSpace(c), bar, "|")
	}
	return split
}

func parseRow(line string) (Row, error) {
	c := cells(line)
	if len(c) != 4 {
		return Row{}, fmt.Errorf("a row of %d cells, not 4 between bars", len(c))
	}
	r := Row{ID: c[0], Text: c[1], Note: c[2]}
	if !idForm.MatchString(r.ID) {
		return Row{}, fmt.Errorf("the id %q is not made of letters, digits and . _ / -", r.ID)
	}
	if r.Text == "" {
		return Row{}, fmt.Errorf("%s has no guarantee", r.ID)
	}
	if reason, open := strings.CutPrefix(c[3], "open:"); open {
		if r.Open = strings.TrimSpace(reason); r.Open == "" {
			return Row{}, fmt.Errorf("%s is open, and does not say why", r.ID)
		}
		return r, nil
	}
	for name := range strings.SplitSeq(c[3], ", ") {
		m := testForm.FindStringSubmatch(name)
		if m == nil {
			return Row{}, fmt.Errorf("%s: %q is neither `package.TestName` nor open: and a reason", r.ID, name)
		}
		t := Test{Package: m[1], Name: m[2], Subtest: m[3]}
		if t.Package == rootPackage {
			t.Package = ""
		}
		if slices.Contains(r.Tests, t) {
			return Row{}, fmt.Errorf("%s names %v twice", r.ID, t)
		}
		r.Tests = append(r.Tests, t)
	}
	return r, nil
}
