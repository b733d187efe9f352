package lua51

import (
	"math"
	"math/rand/v2"
)

// Lua's math library. Random numbers come from a generator of the run's own,
// so that no script can foresee or disturb another's.
var mathEntries = []Entry{
	math1("abs", math.Abs),
	math1("acos", math.Acos),
	math1("asin", math.Asin),
	math1("atan", math.Atan),
	math1("ceil", math.Ceil),
	math1("cos", math.Cos),
	math1("cosh", math.Cosh),
	math1("deg", func(x float64) float64 { return x * 180 / math.Pi }),
	math1("exp", math.Exp),
	math1("floor", math.Floor),
	math1("log", math.Log),
	math1("log10", math.Log10),
	math1("rad", func(x float64) float64 { return x / 180 * math.Pi }),
	math1("sin", math.Sin),
	math1("sinh", math.Sinh),
	math1("sqrt", math.Sqrt),
	math1("tan", math.Tan),
	math1("tanh", math.Tanh),
	math2("atan2", math.Atan2),
	math2("fmod", math.Mod),
	math2("pow", math.Pow),
	math2("mod", math.Mod),
	math2("ldexp", func(x, y float64) float64 { return math.Ldexp(x, toCInt(y)) }),
	{Name: "frexp", Call: mathFrexp},
	{Name: "modf", Call: mathModf},
	{Name: "max", Call: func(c Call) int { return c.best(func(x, y float64) bool { return x > y }) }},
	{Name: "min", Call: func(c Call) int { return c.best(func(x, y float64) bool { return x < y }) }},
	{Name: "random", Call: mathRandom},
	{Name: "randomseed", Call: mathRandomseed},
	{Name: "huge", Kind: Numeric, Num: math.Inf(1)},
	{Name: "pi", Kind: Numeric, Num: math.Pi},
}

func math1(name string, f func(float64) float64) Entry {
	return Entry{Name: name, Call: func(c Call) int { return c.RetNumber(f(c.Num(1))) }}
}

func math2(name string, f func(x, y float64) float64) Entry {
	return Entry{Name: name, Call: func(c Call) int {
		y := c.Num(2) // which is looked at first
		return c.RetNumber(f(c.Num(1), y))
	}}
}

// best returns the first argument than which none is better.
func (c Call) best(better func(x, y float64) bool) int {
	best := c.Num(1)
	for n := 2; n <= c.Count(); n++ {
		if x := c.Num(n); better(x, best) {
			best = x
		}
	}
	return c.RetNumber(best)
}

func mathFrexp(c Call) int {
	frac, exp := math.Frexp(c.Num(1))
	c.RetNumber(frac)
	c.RetNumber(float64(exp))
	return 2
}

func mathModf(c Call) int {
	x := c.Num(1)
	whole, frac := math.Trunc(x), 0.0
	if !math.IsInf(x, 0) {
		frac = x - whole
	}
	frac = math.Copysign(frac, x)
	c.RetNumber(whole)
	c.RetNumber(frac)
	return 2
}

func (r *Run) random() *rand.Rand {
	if r.rng == nil {
		r.rng = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	}
	return r.rng
}

func mathRandomseed(c Call) int {
	seed := math.Float64bits(c.Num(1))
	c.rng = rand.New(rand.NewPCG(seed, seed))
	return 0
}

func mathRandom(c Call) int {
	f := c.random().Float64()
	low, high := 1.0, 0.0
	switch c.Count() {
	case 0:
		return c.RetNumber(f)
	case 1:
		if high = math.Floor(c.Num(1)); high < 1 {
			c.ArgError(1, "interval is empty")
		}
	case 2:
		low, high = math.Floor(c.Num(1)), math.Floor(c.Num(2))
		if low > high {
			c.ArgError(2, "interval is empty")
		}
	default:
		c.Fail("wrong number of arguments")
	}
	return c.RetNumber(math.Floor(f*(high-low+1)) + low)
}
