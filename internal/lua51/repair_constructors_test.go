package lua51

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet/internal/testrace"
)

// The VM's compiler makes mistakes in constructors, depending on how many
// elements there are and what stands last: {'a', name = tostring(5)} had a
// length of 2, and 50 elements and a call with a key were an internal error.
// All combinations are as in Lua 5.1.
func TestConstructors(t *testing.T) {
	ref := startOracle(t)
	e := newComparableEngine(t)
	lasts := []string{"", "7", "f(7, 8)", "(f(7, 8))", "...", "(...)", "{f(7, 8)}", "x = 7", "x = f(7, 8)", "x = ...", "[-f(9, 8)] = f(7, 8)", "x = {f(7, 8)}"}
	programs := 0
	for _, n := range []int{0, 1, 2, 49, 50, 51, 99, 100, 101, 150, 511, 512} {
		for _, at := range []int{-1, 0, 1, 49, 50, 51, 100} { // where a key stands between
			if at > n {
				continue
			}
			if testing.Short() && (n+at)%11 != 0 || testrace.Enabled && (n+at)%4 != 0 {
				continue
			}
			for _, value := range []string{"5", "f(5, 6)", "{1, f(2)}", "..."} {
				if at < 0 && value != "5" {
					continue
				}
				for _, last := range lasts {
					var fields []string
					for i := range n + 1 {
						if i == at {
							fields = append(fields, "k = "+value)
						}
						if i < n {
							fields = append(fields, fmt.Sprint(i*3))
						}
					}
					if last != "" {
						fields = append(fields, last)
					}
					source := "local function f(...) return ... end local function g(...) local t = {" + strings.Join(fields, ", ") + `}
						local keys = 0 for k in pairs(t) do keys = keys + 1 end
						print(#t, keys, type(t.k), type(t.x), t[9], t[#t], t[#t - 1], t[50], t[51], t[100], t[1])
						return ` + strings.Join(append([]string{"#t"}, lasts[1+programs%6]), ", ") + ` end print(g(1, 2, 3))`
					programs++
					want, got := normal(ref.run(t, source)), normal(runHere(t, e, source))
					if diff := cmp.Diff(want, got); diff != "" {
						t.Fatalf("%d elements, a key at %d with %s, and %s (-lua5.1 +here):\n%s", n, at, value, last, diff)
					}
				}
			}
		}
	}
	for _, n := range []int{25_549, 25_550, 25_551, 25_600} {
		for _, last := range []string{"7", "f(7, 8)", "x = f(7, 8)"} {
			source := "local function f(...) return ... end local t = {" + strings.Repeat("1,", n) + last + "} print(#t, t[#t], t.x, t[25550], t[25551])"
			want, got := normal(ref.run(t, source)), normal(runHere(t, e, source))
			if strings.Contains(got.Error, "several from one expression") {
				continue // which is documented
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%d elements and %s (-lua5.1 +here):\n%s", n, last, diff)
			}
		}
	}
	t.Logf("%d programs", programs)
}
