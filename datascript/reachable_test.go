package datascript

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	lua "github.com/yuin/gopher-lua"

	"github.com/limpetlb/limpet/internal/lua51"
)

// reachable lists all that scripts can get hold of without having made it:
// path and type, a line each. A new line is a decision.
func reachable(t testing.TB) string {
	t.Helper()
	st := newEngine(t, Env{}).lua.NewState()
	var lines []string
	var walk func(path string, v lua.LValue, seen []lua.LValue)
	walk = func(path string, v lua.LValue, seen []lua.LValue) {
		if slices.Contains(seen, v) {
			return
		}
		line := path + " " + v.Type().String()
		table, ok := v.(*lua.LTable)
		if !ok {
			if f, ok := v.(*lua.LFunction); ok && (!f.IsG || len(f.Upvalues) != 0) {
				line += " with upvalues"
			}
			lines = append(lines, line)
			return
		}
		seen = append(seen, v)
		if inner := lua51.Behind(table); inner != nil {
			line += ", read-only"
			table.ForEach(func(k, _ lua.LValue) { t.Errorf("%s.%v is not behind the table", path, k) })
			table = inner
		}
		lines = append(lines, line)
		table.ForEach(func(k, v lua.LValue) { walk(fmt.Sprint(path, ".", k), v, seen) })
	}
	for name, s := range symbols {
		if s.IsGlobal() && s.Kind != lua51.Variable {
			walk(name, st.Value(s.Symbol), nil)
		}
	}
	for _, v := range []lua.LValue{lua.LString(""), lua.LNumber(0), lua.LTrue, lua.LNil, st.Value(library.Lookup("print"))} {
		if mt, ok := st.L.GetMetatable(v).(*lua.LTable); ok {
			walk("(metatable of a "+v.Type().String()+")", mt, nil)
		}
	}
	st.L.G.Global.ForEach(func(k, v lua.LValue) { walk("_G."+k.String(), v, nil) })
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}

func TestReachable(t *testing.T) {
	const file = "testdata/reachable.txt"
	got := reachable(t)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("what scripts can reach has changed (-want +got); if that is meant, run: go test ./datascript -run TestReachable -update\n%s", diff)
	}
}
