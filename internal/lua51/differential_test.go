package lua51

import (
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// Random programs print the same here and in Lua 5.1, and fail with the same
// text: a million with -full. LIMPET_PROGRAMS sets how many there are,
// LIMPET_SEED other ones.
func TestDifferential(t *testing.T) {
	count, seed := 20_000, uint64(1)
	if n, err := strconv.Atoi(os.Getenv("LIMPET_PROGRAMS")); err == nil {
		count = n
	} else if *full {
		count = 1_000_000
	} else if raceDetector || testing.Short() {
		count = 1000
	}
	if n, err := strconv.ParseUint(os.Getenv("LIMPET_SEED"), 10, 64); err == nil {
		seed = n
	}
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 5))}
	programs := make([]string, count)
	for i := range programs {
		programs[i] = g.program()
	}
	ref := startOracle(t)
	go ref.feed(programs)
	e := newComparableEngine(t)
	different, failed, skipped, explained := 0, 0, 0, 0
	for i, source := range programs {
		want := normal(ref.read(t))
		got := normal(runHere(t, e, source))
		switch {
		case want.Error == "too many instructions" || strings.Contains(got.Error, "script budget exceeded"):
			skipped++
		case got.equal(want):
		case got.vague().equal(want.vague()):
			explained++
		default:
			if different++; different <= 10 {
				t.Errorf("program %d:\n%s\n   here %q\n%+v\nlua5.1 %q\n%+v", i, source, got.Error, got.Printed, want.Error, want.Printed)
			}
		}
		if want.Failed {
			failed++
		}
	}
	t.Logf("%d programs, %d of which fail; %d different, %d explained, %d too long to compare", count, failed, different, explained, skipped)
	if different > 0 {
		t.Errorf("%d of %d programs differ", different, count)
	}
	if explained > count/2000+2 {
		t.Errorf("%d programs differ in names and lines alone, which is more than can be explained", explained)
	}
	if skipped > count/100 {
		t.Errorf("%d programs are too long to compare", skipped)
	}
}

// vague leaves out what is known to differ now and then: the name of a value
// that "and" or "or" has chosen, the name that Lua finds for the generator of a
// loop in a register which something else was in, and the line of a print that
// is the last call of a function.
func (o outcome) vague() outcome {
	o.Error = named.ReplaceAllString(o.Error, "a $1 value")
	printed := make([]string, len(o.Printed))
	for i, line := range o.Printed {
		printed[i] = named.ReplaceAllString(printedAt.ReplaceAllString(line, ""), "a $1 value")
	}
	o.Printed = printed
	return o
}

var (
	named     = regexp.MustCompile(`(?:local|global|field|upvalue|method) '[^']*' \(a (\w+) value\)`)
	printedAt = regexp.MustCompile(`^\[string "My Script"\]:\d+: `)
)

// driver is the place of the reference's own code, which error finds if its
// level is high enough.
var driver = regexp.MustCompile(`\(command line\):\d+: `)

var minusZero = regexp.MustCompile(`-0([^.0-9]|$)`)

// normal hides what is known to differ: the signs of zero and of what is not
// a number.
func normal(o outcome) outcome {
	fix := func(s string) string {
		return minusZero.ReplaceAllString(strings.ReplaceAll(driver.ReplaceAllString(s, ""), "-nan", "nan"), "0$1")
	}
	o.Error = fix(o.Error)
	for i := range o.Printed {
		o.Printed[i] = fix(o.Printed[i])
	}
	return o
}
