package lua51

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Each fault of the VM shows in the VM by itself, and neither here nor in Lua
// 5.1. A version of the VM that has lost one fails here, and needs the repair
// no longer.
func TestRepairs(t *testing.T) {
	ref := startOracle(t)
	e := newComparableEngine(t)
	shown := func(o outcome) string {
		var lines []string
		for _, line := range o.Printed {
			_, text, _ := strings.Cut(line, ": ")
			lines = append(lines, strings.NewReplacer(`\t`, " ", "\t", " ").Replace(text))
		}
		if o.Failed {
			_, text, _ := strings.Cut(o.Error, ": ")
			lines = append(lines, "error: "+text)
		}
		return strings.Join(lines, "; ")
	}
	for _, r := range repairs {
		t.Run(strings.TrimSuffix(strings.TrimPrefix(r.file, "repair_"), ".go"), func(t *testing.T) {
			if got := stock(r.program); got != r.wrong {
				t.Errorf("%s prints %q in the VM by itself, not %q", r.program, got, r.wrong)
			}
			if got := shown(runHere(t, e, r.program)); got != r.right {
				t.Errorf("%s prints %q here, want %q", r.program, got, r.right)
			}
			if got := shown(ref.run(t, r.program)); got != r.right {
				t.Errorf("%s prints %q in lua5.1, want %q", r.program, got, r.right)
			}
			if _, err := os.Stat(r.file); err != nil {
				t.Error(err)
			}
		})
	}
}

// A VM that does not show a fault, or has other fields, is refused with the
// reason.
func TestOtherVM(t *testing.T) {
	if err := Fault(); err != nil {
		t.Fatal(err)
	}
	for _, r := range repairs {
		other := *r
		other.wrong = other.right
		err := faultOf([]*repair{&other})
		if err == nil || !strings.HasPrefix(err.Error(), "this version of github.com/yuin/gopher-lua is not supported: "+r.file+" repairs a fault that this version has not: ") {
			t.Errorf("%s: error %v", r.file, err)
		}
	}
	defer func(missing []string) { vmMissing = missing }(vmMissing)
	type strange struct {
		currentFrame *struct{ Idx int }
		reg          int
	}
	var _ = strange{}.currentFrame
	var _ = strange{}.reg
	mirror[strange, vmFrame]("currentFrame")
	mirror[strange, vmRegistry]("reg")
	field[strange]("uvcache", 0)
	err := faultOf(repairs)
	if err == nil || !strings.Contains(err.Error(), "this version of github.com/yuin/gopher-lua is not supported: it has no strange.currentFrame.Fn,") ||
		!strings.HasSuffix(err.Error(), "strange.reg, strange.uvcache") {
		t.Errorf("error %v", err)
	}
	defer func(f func() error) { fault = f }(fault)
	fault = func() error { return err }
	if _, got := newHost(Limits{}).compile("x = 1"); got == nil || got.Error() != err.Error() {
		t.Errorf("compiled with error %v, want %v", got, err)
	}
}

// docs/lua.md has each fault, ready to be reported.
func TestRepairsAreDocumented(t *testing.T) {
	data, err := os.ReadFile("../../docs/lua.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(data)
	for _, r := range repairs {
		section := "### " + r.fault + "\n\n```lua\n" + r.program + "\n```\n\nIt prints `" + r.wrong + "` in gopher-lua and `" + r.right +
			"` in Lua 5.1. Repaired in `internal/lua51/" + r.file + "`.\n"
		if !strings.Contains(page, section) {
			t.Errorf("docs/lua.md does not have\n%s", section)
		}
	}
	if got := strings.Count(page, "\n### "); got != len(repairs) {
		t.Errorf("docs/lua.md has %d faults, want %d", got, len(repairs))
	}
	if files, err := filepath.Glob("repair_*.go"); err != nil {
		t.Error(err)
	} else {
		for _, file := range files {
			if !strings.HasSuffix(file, "_test.go") && !slices.ContainsFunc(repairs, func(r *repair) bool { return r.file == file }) {
				t.Errorf("%s has no program that shows its fault", file)
			}
		}
	}
	if mod, err := os.ReadFile("../../go.mod"); err != nil || !strings.Contains(string(mod), "github.com/yuin/gopher-lua v1.1.2\n") || !strings.Contains(page, "gopher-lua v1.1.2") {
		t.Errorf("docs/lua.md names another version than go.mod (%v)", err)
	}
}
