package assurance

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/limpetlb/limpet/internal/testfiles"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// checkDocument checks a document of this module, logs its summary and returns
// it.
func checkDocument(t *testing.T, name string) *Document {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	d, err := Parse(name, string(text))
	if err != nil {
		t.Fatal(err)
	}
	tree, err := NewTree("../..")
	if err != nil {
		t.Fatal(err)
	}
	if err := tree.Check(d); err != nil {
		t.Error(err)
	}
	t.Log(d.Summary())
	return d
}

// Every guarantee has its tests.
func TestAssurance(t *testing.T) { checkDocument(t, "internal/assurance/assurance.md") }

// Every feature that is there has its tests.
func TestParity(t *testing.T) { checkDocument(t, "internal/assurance/parity.md") }

func TestParse(t *testing.T) {
	const text = "# Title\n\nText | with a bar.\n\n## One\n\n| Id | Guarantee | Figure | Tests |\n|:--|---|---|--:|\n" +
		"| a | A \\| B | 5 ms | `datascript.TestA`, `limpet.TestB/sub test/two` |\n" +
		"| a.b_c/d-e | C | differs: how | `internal/x.FuzzC` |\n\n## Empty\n\n## Two\n" +
		"| Id | Guarantee | Figure | Tests |\n|---|---|---|---|\n| z | D | | open: nobody has time |"
	want := &Document{Name: "x.md", Groups: []Group{
		{Name: "One", Rows: []Row{
			{Line: 9, ID: "a", Text: "A | B", Note: "5 ms", Tests: []Test{{"datascript", "TestA", ""}, {"", "TestB", "sub test/two"}}},
			{Line: 10, ID: "a.b_c/d-e", Text: "C", Note: "differs: how", Tests: []Test{{"internal/x", "FuzzC", ""}}},
		}},
		{Name: "Empty"},
		{Name: "Two", Rows: []Row{{Line: 17, ID: "z", Text: "D", Open: "nobody has time"}}},
	}}
	got, err := Parse("x.md", text)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("document (-want +got):\n%s", diff)
	}
	if s := got.Groups[0].Rows[0].Tests; s[0].String() != "datascript.TestA" || s[1].String() != "limpet.TestB/sub test/two" {
		t.Errorf("tests %v", s)
	}
	const summary = "x.md: 2 of 3 are proven, 1 of them in another way, 1 open\n    2 of  2  One, 1 of them in another way\n    0 of  0  Empty\n    0 of  1  Two, 1 open"
	if diff := cmp.Diff(summary, got.Summary()); diff != "" {
		t.Errorf("summary (-want +got):\n%s", diff)
	}
}

func TestParseFaults(t *testing.T) {
	const head = "## G\n| Id | Text | Note | Tests |\n|---|---|---|---|\n"
	for _, tt := range []struct{ name, text, want string }{
		{"nothing", "", "x.md: no rows"},
		{"no heading", strings.TrimPrefix(head, "## G\n") + "| a | A | | `p.TestA` |", "x.md:1: a table above the first heading of level two"},
		{"short head", "## G\n| Id | Text |\n|---|---|---|---|\n| a | A | | `p.TestA` |", "x.md:2: the head of a table has four cells: id, text, figure or note, tests"},
		{"no rule", "## G\n| Id | Text | Note | Tests |\n| a | A | | `p.TestA` |", "x.md:3: the second line of a table is |---|---|---|---|"},
		{"three cells", head + "| a | A | `p.TestA` |", "x.md:4: a row of 3 cells, not 4 between bars\nx.md: no rows"},
		{"no last bar", head + "| a | A | | `p.TestA`", "x.md:4: a row of 0 cells, not 4 between bars\nx.md: no rows"},
		{"no id", head + "| | A | | `p.TestA` |", "x.md:4: the id \"\" is not made of letters, digits and . _ / -\nx.md: no rows"},
		{"no text", head + "| a | | | `p.TestA` |", "x.md:4: a has no guarantee\nx.md: no rows"},
		{"id twice", head + "| a | A | | `p.TestA` |\n| a | B | | `p.TestB` |", `x.md:5: "a" is the id of line 4 already`},
		{"no test", head + "| a | A | | |", "x.md:4: a: \"\" is neither `package.TestName` nor open: and a reason\nx.md: no rows"},
		{"no package", head + "| a | A | | `TestA` |", "x.md:4: a: \"`TestA`\" is neither `package.TestName` nor open: and a reason\nx.md: no rows"},
		{"no quotes", head + "| a | A | | p.TestA |", "x.md:4: a: \"p.TestA\" is neither `package.TestName` nor open: and a reason\nx.md: no rows"},
		{"a benchmark", head + "| a | A | | `p.BenchmarkA` |", "x.md:4: a: \"`p.BenchmarkA`\" is neither `package.TestName` nor open: and a reason\nx.md: no rows"},
		{"no reason", head + "| a | A | | open: |", "x.md:4: a is open, and does not say why\nx.md: no rows"},
		{"test twice", head + "| a | A | | `p.TestA`, `p.TestA` |", "x.md:4: a names p.TestA twice\nx.md: no rows"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("x.md", tt.text)
			if err == nil || err.Error() != tt.want {
				t.Errorf("error\n%v\nwant\n%s", err, tt.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add("## G\n| Id | T | N | Tests |\n|---|---|---|---|\n| a | A \\| | b | `p.TestA/x y`, `limpet.TestB` |\n") // all that a row can have
	f.Add("|\n")                                                                                                  // a table that ends at once
	f.Add("## G\n| a | b | c | d |")                                                                              // a head at the end of the file
	f.Add("## G\r\n|a|b|c|d|\r\n|-|-|-|-|\r\n|a|b|c|open:d|\r\n")                                                 // other line ends
	f.Fuzz(func(t *testing.T, text string) {
		d, err := Parse("x", text)
		if err != nil {
			return
		}
		seen := map[string]bool{}
		for _, g := range d.Groups {
			for _, r := range g.Rows {
				if seen[r.ID] || r.Text == "" || (r.Open == "") != (len(r.Tests) > 0) || r.Line > strings.Count(text, "\n")+1 {
					t.Errorf("accepted %+v", r)
				}
				seen[r.ID] = true
			}
		}
		if d.Summary() == "" {
			t.Error("no summary")
		}
	})
}

func TestCheck(t *testing.T) {
	tree, err := NewTree(testfiles.Write(t, map[string]string{
		"a_test.go":                "package p\nfunc TestRoot(t *testing.T) {}\n",
		"p/a_test.go":              "package p\nfunc TestA(t *testing.T) { t.Run(\"one two\", nil) }\nfunc TestSkips(t *testing.T) { x(); t.Skip(\"never\") }\nfunc TestMaySkip(t *testing.T) { if x { t.Skip() } }\nfunc (T) TestMethod() {}\n",
		"p/b_test.go":              "package p\nfunc TestB(t *testing.T) { for { t.Run(name, nil) } }\nfunc TestAlloc(t *testing.T) {}\nfunc TestNever(t *testing.T) {}\n",
		"p/testdata/cases/c1.txt":  "",
		"broken/a_test.go":         "package",
		"internal/bench/a_test.go": "package bench\nfunc TestNested(t *testing.T) {}\n",
		"internal/bench/go.mod":    "module bench\n",
		"examples/x/a_test.go":     "package x\nfunc TestExample(t *testing.T) {}\n",
		"internal/tools/skips":     "# comment\n\nrace * .*Alloc allocates\nrace p TestNever a\nplain p TestNever b\n* p TestB/c1 c\n* examples/... .* d\n",
	}))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, test, want string }{
		{"exists", "limpet.TestRoot", ""},
		{"in a nested module", "internal/bench.TestNested", ""},
		{"subtest", "p.TestA/one_two", ""},
		{"subtest of another file", "p.TestB/one_two", `no subtest "one_two"`},
		{"subtest of test data", "p.TestA/c1", ""},
		{"subtest of a subtest", "p.TestA/one_two/three", `no subtest "three"`},
		{"missing", "p.TestMissing", "there is no test p.TestMissing"},
		{"method", "p.TestMethod", "there is no test p.TestMethod"},
		{"no package", "q.TestA", `the directory "q" has no tests`},
		{"broken package", "broken.TestA", "expected"},
		{"skips itself", "p.TestSkips", "always skips itself"},
		{"may skip itself", "p.TestMaySkip", ""},
		{"skipped in one run", "p.TestAlloc", ""},
		{"skipped in both runs", "p.TestNever", "may be skipped in every run"},
		{"subtest skipped", "p.TestB/c1", "may be skipped in every run"},
		{"others not", "p.TestB", ""},
		{"below a skipped directory", "examples/x.TestExample", "may be skipped in every run"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			row, err := parseRow("| a | A | | `" + tt.test + "` |")
			if err != nil {
				t.Fatal(err)
			}
			row.Line = 7
			err = tree.Check(&Document{Name: "x.md", Groups: []Group{{Rows: []Row{row}}}})
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "x.md:7: a: ")):
				t.Errorf("error %v, want %s", err, tt.want)
			}
		})
	}
}

func TestNewTreeFaults(t *testing.T) {
	for name, skips := range map[string]string{"short": "race p TestA", "bad expression": "race p ( reason"} {
		if _, err := NewTree(testfiles.Write(t, map[string]string{"internal/tools/skips": skips})); err == nil || !strings.Contains(err.Error(), "skips:1: ") {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if _, err := NewTree(testfiles.Write(t, nil)); err != nil {
		t.Errorf("without a list: %v", err)
	}
	if _, err := NewTree(testfiles.Write(t, map[string]string{"internal/tools/skips/x": ""})); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory for a list: %v", err)
	}
}
