package lua51

import (
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/limpetlb/limpet/internal/testrace"
)

// Random programs print the same here and in Lua 5.1, and fail with the same
// text: a million with -full. LIMPET_PROGRAMS sets how many there are,
// LIMPET_SEED other ones. Each difference must be one of those that are known;
// see differences.
func TestDifferential(t *testing.T) {
	count, seed := 20_000, uint64(1)
	if n, err := strconv.Atoi(os.Getenv("LIMPET_PROGRAMS")); err == nil {
		count = n
	} else if *full {
		count = 1_000_000
	} else if testrace.Enabled || testing.Short() {
		count = 1000
	}
	if n, err := strconv.ParseUint(os.Getenv("LIMPET_SEED"), 10, 64); err == nil {
		seed = n
	}
	if testing.Short() {
		count = min(count, 200)
	}
	var shards [2]*comparison
	t.Run("shards", func(t *testing.T) {
		for i := range shards {
			t.Run(strconv.Itoa(i), func(t *testing.T) {
				t.Parallel()
				shards[i] = compareRandom(t, rand.NewPCG(seed, uint64(5+i)), count/len(shards))
			})
		}
	})
	all := comparison{explained: map[string]int{}}
	for _, c := range shards {
		if c == nil {
			t.FailNow() // it has said why
		}
		all.programs += c.programs
		all.failed += c.failed
		all.skipped += c.skipped
		all.different += c.different
		for name, n := range c.explained {
			all.explained[name] += n
		}
	}
	t.Logf("%d programs of seed %d, %d of which fail; %d different, explained %v, %d too long to compare",
		all.programs, seed, all.failed, all.different, all.explained, all.skipped)
	if all.different > 0 {
		t.Errorf("%d of %d programs differ", all.different, all.programs)
	}
	if all.programs != count/len(shards)*len(shards) {
		t.Errorf("%d programs, want %d", all.programs, count)
	}
	if all.skipped > count/100 {
		t.Errorf("%d programs are too long to compare", all.skipped)
	}
}

// compareRandom compares n programs.
func compareRandom(t *testing.T, source rand.Source, n int) *comparison {
	c := newComparison(t)
	g := &generator{Rand: rand.New(source)}
	programs := make(chan string, 64)
	go func() {
		defer close(programs)
		for range n {
			source := g.program()
			programs <- source
			c.oracle.feed(source)
		}
	}()
	for source := range programs {
		c.compare(t, source)
	}
	return c
}

// A comparison is what a series of programs has shown.
type comparison struct {
	oracle *oracle
	engine *host

	// These are for programs that have differed.
	again    *oracle
	adjusted *adjusted
	shallow  *host // where calls may nest less deeply

	programs, failed, skipped, different int
	explained                            map[string]int
}

func newComparison(t *testing.T) *comparison {
	return &comparison{explained: map[string]int{}, oracle: startOracle(t), engine: newComparableEngine(t),
		again: startOracle(t), adjusted: newAdjusted(t), shallow: newHost(Limits{CallDepth: 150})}
}

// compare runs the program that the oracle has been fed.
func (c *comparison) compare(t *testing.T, source string) {
	want := normal(c.oracle.read(t))
	got := normal(runHere(t, c.engine, source))
	if c.programs++; c.programs%50_000 == 0 {
		t.Logf("%d programs, %d different", c.programs, c.different)
	}
	if want.Failed {
		c.failed++
	}
	switch {
	case want.Error == "too many instructions" || strings.Contains(got.Error, "script budget exceeded"):
		c.skipped++
	case got.equal(want):
	default:
		if name := c.explain(t, source, got, want); name != "" {
			c.explained[name]++
			return
		}
		if c.different++; c.different <= 10 {
			t.Errorf("program %d:\n%s\n   here %q\n%+v\nlua5.1 %q\n%+v", c.programs, source, got.Error, got.Printed, want.Error, want.Printed)
		}
	}
}

// explain returns which of the known differences there are between two
// outcomes of a program, or "" if there are others.
func (c *comparison) explain(t *testing.T, source string, got, want outcome) string {
	lines := strings.Split(source, "\n")
	// What a program does with an address may be anything.
	plain := want
	if strings.Contains(source, "tostring") {
		plain = normal(c.again.runPlain(t, source))
	}
	names := func(got outcome, met []string) string {
		for _, lua := range []outcome{want, plain} {
			names := slices.Clone(met)
			if !got.equal(lua) {
				name := differ(lines, got, lua)
				if name == "" && c.isRecursion(t, source, got, lua) {
					name = "recursion"
				}
				if name == "" {
					continue
				}
				names = append(names, name)
			}
			if !lua.equal(want) {
				names = append(names, "address")
			}
			slices.Sort(names)
			return strings.Join(names, ", ")
		}
		return ""
	}
	explained := names(got, nil)
	for _, w := range ways {
		if explained != "" {
			break
		}
		if again, met := c.adjusted.run(t, source, w); len(met) > 0 {
			explained = names(again, met)
		}
	}
	return explained
}

// isRecursion reports whether two outcomes differ only in how often the same
// lines are printed, and in the lines of the deepest calls, which show the
// error that they nest too deeply; and whether the program ends otherwise if
// calls may nest less deeply. The depth at which calls fail differs: in Lua,
// calls from C fail long before those from Lua.
func (c *comparison) isRecursion(t *testing.T, source string, got, want outcome) bool {
	deep := func(s string) string { return deepHere.ReplaceAllString(deepLua.ReplaceAllString(s, "!"), "!") }
	lines := func(o outcome) (other, deepest []string) {
		for _, line := range o.Printed {
			if d := deep(line); d != line {
				deepest = append(deepest, d)
			} else {
				other = append(other, line)
			}
		}
		slices.Sort(other)
		slices.Sort(deepest)
		return slices.Compact(other), slices.Compact(deepest)
	}
	gotOther, gotDeepest := lines(got)
	wantOther, wantDeepest := lines(want)
	if got.Failed != want.Failed || len(got.Printed) == len(want.Printed) || deep(got.Error) != deep(want.Error) || !slices.Equal(gotOther, wantOther) {
		return false
	}
	if !slices.Equal(gotDeepest, wantDeepest) && (len(gotDeepest) == 0 || len(wantDeepest) == 0) {
		return false
	}
	return !normal(runHere(t, c.shallow, source)).equal(got)
}

// differ returns which of the differences there are, and "" if they do not make
// up for everything.
func differ(lines []string, got, want outcome) string {
	if got.Failed != want.Failed || len(got.Printed) != len(want.Printed) {
		return ""
	}
	var names []string
	for i, here := range append(slices.Clone(got.Printed), got.Error) {
		lua := append(slices.Clone(want.Printed), want.Error)[i]
		if here == lua {
			continue
		}
		i := slices.IndexFunc(differences, func(d difference) bool { return d.explains(lines, here, lua) })
		if i < 0 {
			return ""
		}
		if !slices.Contains(names, differences[i].name) {
			names = append(names, differences[i].name)
		}
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// A difference is one of those that docs/reference/datascript.md names, or one
// of the reference's print from Lua's own. It explains two texts, which a
// program with these lines has printed or failed with, if they differ by it and
// by nothing else.
type difference struct {
	name     string
	explains func(lines []string, here, lua string) bool
}

var differences = []difference{
	{"depth", differByDepth},
	{"name", differByName},
	{"line", differByLine},
}

const anyPosition = `(?:\[string "My Script"\]:\d+: )?`

var (
	deepHere = regexp.MustCompile(anyPosition + `stack overflow`)
	deepLua  = regexp.MustCompile(anyPosition + `(?:C stack overflow|error in error handling)`)
)

// differByDepth: calls that nest too deeply have another text, and sometimes no
// position, if functions of C or metamethods are among them, or if one such
// error has been caught that deep already. Where Lua does not say so, the texts
// must be equal.
func differByDepth(_ []string, here, lua string) bool {
	return deepLua.MatchString(lua) && deepHere.ReplaceAllString(here, "!") == deepLua.ReplaceAllString(lua, "!")
}

var (
	named      = regexp.MustCompile(`(?:local|global|field|upvalue|method) '[^']*' \(a (\w+) value\)`)
	calledBy   = regexp.MustCompile(`(bad argument #\d+ to )'[^'?]*'`)
	failedLine = regexp.MustCompile(`\[string "My Script"\]:(\d+): [a-z]`)
	unnamed    = regexp.MustCompile(`\b(?:and|or|for .* in)\b`)
)

// differByName: Lua has a name for a value that "and" or "or" has chosen, or
// for the generator of a loop, and we have none. The line that failed must have
// one of the words; a name that we give must be Lua's.
func differByName(lines []string, here, lua string) bool {
	var pattern strings.Builder
	from := 0
	for _, m := range named.FindAllStringSubmatchIndex(lua, -1) {
		pattern.WriteString(regexp.QuoteMeta(lua[from:m[0]]))
		pattern.WriteString("(?:" + regexp.QuoteMeta(lua[m[0]:m[1]]) + "|a " + lua[m[2]:m[3]] + " value)")
		from = m[1]
	}
	pattern.WriteString(regexp.QuoteMeta(lua[from:]))
	if calledBy.ReplaceAllString(lua, "$1'?'") == here {
		pattern.Reset() // a library function that was called without a name
		pattern.WriteString(regexp.QuoteMeta(here))
	}
	if same, err := regexp.MatchString("^(?:"+pattern.String()+")$", here); err != nil || !same {
		return false
	}
	for _, m := range failedLine.FindAllStringSubmatch(lua, -1) {
		if n, err := strconv.Atoi(m[1]); err == nil && n <= len(lines) && unnamed.MatchString(lines[n-1]) {
			return true
		}
	}
	return false
}

var (
	printedAt = regexp.MustCompile(`^\[string "My Script"\]:(\d+): `)
	endsIn    = regexp.MustCompile(`\breturn [^ ,]*[({'"\[]`)
)

// differByLine: a print that is the last call of a function has the function's
// line here, and its caller's there, as the reference's print is written in
// Lua. Our line must be one that ends a function in such a way.
func differByLine(lines []string, here, lua string) bool {
	ours := printedAt.FindStringSubmatch(here)
	if ours == nil || printedAt.ReplaceAllString(here, "") != printedAt.ReplaceAllString(lua, "") {
		return false
	}
	n, err := strconv.Atoi(ours[1])
	return err == nil && n <= len(lines) && endsIn.MatchString(lines[n-1])
}

// driver is the position of the reference's own code, which error finds if its
// level is high enough.
var driver = regexp.MustCompile(`\(command line\):\d+: `)

var minusZero = regexp.MustCompile(`-0([^.0-9]|$)`)

// driverDeep is a call of the reference's own code that nests too deeply.
var driverDeep = regexp.MustCompile(driver.String() + `(stack overflow)`)

// normal hides what is known to differ: the signs of zero and of what is not
// a number.
func normal(o outcome) outcome {
	fix := func(s string) string {
		s = driverDeep.ReplaceAllString(s, "C $1")
		return minusZero.ReplaceAllString(strings.ReplaceAll(driver.ReplaceAllString(s, ""), "-nan", "nan"), "0$1")
	}
	o.Error = fix(o.Error)
	for i := range o.Printed {
		o.Printed[i] = fix(o.Printed[i])
	}
	return o
}
