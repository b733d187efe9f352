package lua51

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	lua "github.com/yuin/gopher-lua"
)

// An adjusted host runs programs with what is known to differ from Lua put
// right: numerals are read, patterns end, and remainders and powers are
// computed as there. It says which of these has made a difference, so that a
// program which then prints what Lua prints has shown these and no others.
type adjusted struct {
	*host
	ref    *oracle // computes powers
	powers map[[2]float64]float64
	met    map[string]bool
	way
}

// A way says what becomes of differences that can be put right in several ways,
// one of which is Lua's, mostly.
type way struct {
	border borderWay
	zero   zeroWay
}

// A borderWay says what the length of an array with holes is.
type borderWay int

const (
	ourBorder   borderWay = iota
	halfBorder            // what a search by halves finds
	firstBorder           // where the first hole is
)

// A zeroWay says what becomes of zeros with a minus sign. Here the VM loses the
// sign in most operations. Lua loses it if it has computed the zero when it
// compiled the program, and has another zero among the constants.
type zeroWay int

const (
	ourZero  zeroWay = iota
	signed           // operators keep the sign
	unsigned         // functions and operators are never given one
)

// ways are all of them, the most likely ones first.
var ways = func() (all []way) {
	for _, zero := range []zeroWay{ourZero, signed, unsigned} {
		for _, border := range []borderWay{ourBorder, halfBorder, firstBorder} {
			all = append(all, way{border, zero})
		}
	}
	return all
}()

func newAdjusted(t *testing.T) *adjusted {
	a := &adjusted{host: newComparableEngine(t), ref: startOracle(t), powers: map[[2]float64]float64{}}
	for name, s := range a.library.symbols {
		if call := s.call; call != nil {
			s.call = a.adjust(t, name, call)
		}
	}
	return a
}

// run returns the outcome of a program, and what has made a difference.
func (a *adjusted) run(t *testing.T, source string, w way) (outcome, []string) {
	a.met, a.way = map[string]bool{}, w
	// A script that spells these names has its remainders and powers computed
	// by functions, unless they are constants.
	source = constantPower.ReplaceAllString(source, "^ ($1 or nil)")
	names := "'__mod', '__pow'"
	if w.zero != ourZero {
		names += ", '__add', '__sub', '__mul', '__div', '__unm'"
	}
	o := normal(runHere(t, a.host, "local _ = "+names+" "+source))
	return o, slices.Sorted(maps.Keys(a.met))
}

var constantPower = regexp.MustCompile(`\^ (\(-?[0-9.](?:[eE][-+]|[0-9a-zA-Z.])*\)|-?[0-9.](?:[eE][-+]|[0-9a-zA-Z.])*)`)

// numberArgs are the arguments of functions that are numbers, from the first
// to the last.
var numberArgs = map[string][2]int{
	"string.byte": {2, 3}, "string.char": {1, 255}, "string.find": {3, 3}, "string.format": {2, 255}, "string.gsub": {4, 4}, "string.match": {3, 3}, "string.rep": {2, 2}, "string.sub": {2, 3},
	"table.concat": {3, 4}, "table.insert": {2, 2}, "table.remove": {2, 2},
	"error": {2, 2}, "select": {1, 1}, "tonumber": {1, 2}, "unpack": {2, 3}, boundName: {1, 1},
	addName: {1, 2}, subtractName: {1, 2}, multiplyName: {1, 2}, divideName: {1, 2}, powerName: {1, 2}, moduloName: {1, 2}, negateName: {1, 1},
}

// adjust returns what a function of the library becomes.
func (a *adjusted) adjust(t *testing.T, name string, call func(Call) int) func(Call) int {
	args := numberArgs[name]
	if strings.HasPrefix(name, "math.") {
		args = [2]int{1, 255}
	}
	return func(c Call) int {
		for i := max(1, args[0]); i <= min(args[1], c.Count()); i++ {
			if s, ok := c.Arg(i).(lua.LString); ok {
				if f, ok := parseWord(cText(string(s))); ok {
					a.met["numeral"] = true
					c.L.Replace(i, lua.LNumber(f))
				}
			}
		}
		a.spellNaN(c, name)
		if a.zero == unsigned {
			for i := 1; i <= c.Count(); i++ {
				if isMinusZero(c.Arg(i)) {
					a.met["sign of zero"] = true
					c.L.Replace(i, lua.LNumber(0))
				}
			}
		}
		switch name {
		case lengthName, "table.getn", "table.concat", "unpack", "table.foreachi", "table.insert", "table.remove", "table.sort":
			if t, ok := c.Arg(1).(*lua.LTable); ok && a.border != ourBorder && behind(t) == nil {
				if n := a.borderOf(t); n != c.border(t) {
					a.met["border"] = true
					return withLength(c, name, call, t, n)
				}
			}
		case "string.find", "string.match", "string.gmatch", "string.gfind", "string.gsub":
			pattern, _ := c.Arg(2).(lua.LString)
			head := cText(string(pattern))
			if head != string(pattern) && (name != "string.find" || !lua.LVAsBool(c.Arg(4)) && strings.ContainsAny(head, "^$*+?.([%-")) {
				a.met["zero byte"] = true
				c.L.Replace(2, lua.LString(head))
			}
		case "string.format":
			a.reformat(c)
		case moduloName, powerName, "math.pow":
			x, okX := Number(c.Arg(1))
			y, okY := Number(c.Arg(2))
			switch {
			case !okX || !okY:
			case name != moduloName:
				return c.RetNumber(a.power(t, x, y))
			case math.Abs(x) >= 1<<53 && y == math.Trunc(y) && exactMod(x, y) != luaMod(x, y):
				a.met["remainder"] = true
			}
		}
		n := call(c)
		if a.zero == signed && n > 0 && isMinusZero(c.Arg(c.Count())) {
			a.met["sign of zero"] = true
		}
		return n
	}
}

func isMinusZero(v lua.LValue) bool {
	f, ok := v.(lua.LNumber)
	return ok && f == 0 && math.Signbit(float64(f))
}

// borderOf returns the length of an array in some way but ours.
func (a *adjusted) borderOf(t *lua.LTable) int {
	filled := func(i int) bool { return rawGet(t, lua.LNumber(i)) != lua.LNil }
	high := len(arrayOf(t))
	if a.border == firstBorder || high == 0 || filled(high) {
		n := 0
		for filled(n + 1) {
			n++
		}
		return n
	}
	low := 0
	for high-low > 1 {
		if middle := (low + high) / 2; filled(middle) {
			low = middle
		} else {
			high = middle
		}
	}
	return low
}

// withLength calls a function that asks for the length of an array, and gives
// it another one.
func withLength(c Call, name string, call func(Call) int, t *lua.LTable, n int) int {
	end := func(arg int) {
		if c.Arg(arg) == lua.LNil {
			c.L.SetTop(arg)
			c.L.Replace(arg, lua.LNumber(n))
		}
	}
	at := func(i int) lua.LValue { return rawGet(t, lua.LNumber(i)) }
	switch name {
	case "table.concat":
		end(4)
	case "unpack":
		end(3)
	case "table.foreachi":
		f := c.function(2)
		for i := 1; i <= n; i++ {
			if result := c.callValue(f, lua.LNumber(i), at(i)); result != lua.LNil {
				return c.Ret(result)
			}
		}
		return 0
	case "table.insert":
		if c.Count() == 2 {
			c.L.Insert(lua.LNumber(n+1), 2)
		}
		if c.Count() != 3 {
			break // an error
		}
		pos := c.cInt(2)
		for i := n; i >= pos; i-- {
			c.put(t, lua.LNumber(i+1), at(i))
		}
		c.put(t, lua.LNumber(pos), c.Arg(3))
		return 0
	case "table.remove":
		pos := c.optCInt(2, n)
		if pos < 1 || pos > n {
			return 0
		}
		v := at(pos)
		for i := pos; i < n; i++ {
			c.put(t, lua.LNumber(i), at(i+1))
		}
		c.put(t, lua.LNumber(n), lua.LNil)
		return c.Ret(v)
	case "table.sort":
		if order := c.Arg(2); order == lua.LNil || order.Type() == lua.LTFunction {
			sorter{c, t, order}.sort(1, n)
			return 0
		}
	default:
		return c.RetNumber(float64(n))
	}
	return call(c)
}

// spellNaN makes text of what is not a number, with the sign that it has in
// Lua, for functions that take strings.
func (a *adjusted) spellNaN(c Call, name string) {
	first, last := 1, 1
	switch {
	case name == concatName:
		last = c.Count()
	case name == "string.find", name == "string.match", name == "string.gmatch", name == "string.gsub":
		last = 3
	case name == "tonumber" && c.Arg(2) != lua.LNil && c.Arg(2) != lua.LNumber(10):
	case name != "tostring" && (!strings.HasPrefix(name, "string.") || name == "string.char" || name == "string.format"):
		return
	}
	for i := first; i <= min(last, c.Count()); i++ {
		if f, ok := c.Arg(i).(lua.LNumber); ok && isNegativeNaN(f) {
			a.met["sign of NaN"] = true
			c.L.Replace(i, lua.LString("-nan"))
		}
	}
}

// isNegativeNaN reports whether C writes a minus sign. Go's own NaN has the
// last bit set, and stands for the processor's, which is negative.
func isNegativeNaN(f lua.LNumber) bool {
	bits := math.Float64bits(float64(f))
	return f != f && bits>>63 != bits&1
}

var directive = regexp.MustCompile(`%([-+ #0]*)(\d*)(\.\d*)?(.)`)

// reformat makes string.format cut strings where Lua does, at their first zero
// byte unless they are long, and write the sign of what is not a number.
func (a *adjusted) reformat(c Call) {
	format, _ := Text(c.Arg(1))
	i := 1
	format = directive.ReplaceAllStringFunc(format, func(item string) string {
		m := directive.FindStringSubmatch(item)
		if m[4] == "%" {
			return item
		}
		i++
		switch v := c.Arg(i).(type) {
		case lua.LString:
			if head := cText(string(v)); m[4] == "s" && head != string(v) && (m[3] != "" || len(v) < 100) {
				a.met["zero byte"] = true
				c.L.Replace(i, lua.LString(head))
			}
		case lua.LNumber:
			if isNegativeNaN(v) && strings.Contains("eEfgGqs", m[4]) {
				a.met["sign of NaN"] = true
				c.L.Replace(i, lua.LString("-nan"))
				if strings.Contains("eEfgG", m[4]) {
					left := ""
					if strings.Contains(m[1], "-") {
						left = "-"
					}
					return "%" + left + m[2] + "s"
				}
			}
		}
		return item
	})
	if _, ok := c.Arg(1).(lua.LString); ok {
		c.L.Replace(1, lua.LString(format))
	}
}

// parseWord reads the numerals that Lua knows through C's strtod and we refuse.
func parseWord(s string) (float64, bool) {
	s = strings.ToLower(strings.Trim(s, " \t\n\v\f\r"))
	sign := 1.0
	switch {
	case strings.HasPrefix(s, "-"):
		s, sign = s[1:], -1
	case strings.HasPrefix(s, "+"):
		s = s[1:]
	}
	if s == "inf" || s == "infinity" {
		return math.Inf(int(sign)), true
	}
	if rest, ok := strings.CutPrefix(s, "nan"); ok {
		inner := strings.TrimSuffix(strings.TrimPrefix(rest, "("), ")")
		return math.NaN(), rest == "" || len(inner) == len(rest)-2 && strings.Trim(inner, "abcdefghijklmnopqrstuvwxyz0123456789_") == ""
	}
	return 0, false
}

// exactMod is the remainder that the VM computes for a whole divisor.
func exactMod(x, y float64) float64 {
	m := math.Mod(x, y)
	if m*y < 0 {
		m += y
	}
	return m
}

// power returns what Lua makes of a power, if that is ours but for the last of
// its digits.
func (a *adjusted) power(t *testing.T, x, y float64) float64 {
	ours := math.Pow(x, y)
	theirs, ok := a.powers[[2]float64{x, y}]
	if !ok {
		numeral := func(f float64) string {
			switch {
			case f != f:
				return "(0/0)"
			case math.IsInf(f, 1):
				return "(1/0)"
			case math.IsInf(f, -1):
				return "(-1/0)"
			}
			return "(" + strconv.FormatFloat(f, 'g', -1, 64) + ")"
		}
		o := a.ref.run(t, fmt.Sprintf("print(('%%.17g'):format(%s ^ %s))", numeral(x), numeral(y)))
		_, text, _ := strings.Cut(o.Printed[0], ": ")
		theirs, _ = strconv.ParseFloat(text, 64)
		a.powers[[2]float64{x, y}] = theirs
	}
	if ours == theirs || !(math.Abs(ours-theirs) <= 1e-13*math.Abs(theirs)) {
		return ours
	}
	a.met["power"] = true
	return theirs
}
