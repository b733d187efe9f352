package datascript

import (
	"math"
	"math/rand/v2"
)

// Lua's math library. Random numbers come from a generator of the run's own,
// so that no script can foresee or disturb another's.
var mathEntries = []entry{
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
	{name: "frexp", call: mathFrexp},
	{name: "modf", call: mathModf},
	{name: "max", call: func(c call) int { return c.best(func(x, y float64) bool { return x > y }) }},
	{name: "min", call: func(c call) int { return c.best(func(x, y float64) bool { return x < y }) }},
	{name: "random", call: mathRandom},
	{name: "randomseed", call: mathRandomseed},
	{name: "huge", kind: numeric, num: math.Inf(1)},
	{name: "pi", kind: numeric, num: math.Pi},
}

func math1(name string, f func(float64) float64) entry {
	return entry{name: name, call: func(c call) int { return c.retNumber(f(c.num(1))) }}
}

func math2(name string, f func(x, y float64) float64) entry {
	return entry{name: name, call: func(c call) int {
		y := c.num(2) // which is looked at first
		return c.retNumber(f(c.num(1), y))
	}}
}

// best returns the first argument than which none is better.
func (c call) best(better func(x, y float64) bool) int {
	best := c.num(1)
	for n := 2; n <= c.count(); n++ {
		if x := c.num(n); better(x, best) {
			best = x
		}
	}
	return c.retNumber(best)
}

func mathFrexp(c call) int {
	frac, exp := math.Frexp(c.num(1))
	c.retNumber(frac)
	c.retNumber(float64(exp))
	return 2
}

func mathModf(c call) int {
	x := c.num(1)
	whole, frac := math.Trunc(x), 0.0
	if !math.IsInf(x, 0) {
		frac = x - whole
	}
	frac = math.Copysign(frac, x)
	c.retNumber(whole)
	c.retNumber(frac)
	return 2
}

func (r *run) random() *rand.Rand {
	if r.rng == nil {
		r.rng = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	}
	return r.rng
}

func mathRandomseed(c call) int {
	seed := math.Float64bits(c.num(1))
	c.run.rng = rand.New(rand.NewPCG(seed, seed))
	return 0
}

func mathRandom(c call) int {
	f := c.random().Float64()
	low, high := 1.0, 0.0
	switch c.count() {
	case 0:
		return c.retNumber(f)
	case 1:
		if high = math.Floor(c.num(1)); high < 1 {
			c.argError(1, "interval is empty")
		}
	case 2:
		low, high = math.Floor(c.num(1)), math.Floor(c.num(2))
		if low > high {
			c.argError(2, "interval is empty")
		}
	default:
		c.fail("wrong number of arguments")
	}
	return c.retNumber(math.Floor(f*(high-low+1)) + low)
}
