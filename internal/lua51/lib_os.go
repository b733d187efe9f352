package lua51

import (
	"fmt"
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"
)

// The harmless part of Lua's os library: the time of day.
var osEntries = []Entry{
	{Name: "clock", Call: osClock},
	{Name: "date", Call: osDate},
	{Name: "difftime", Call: func(c Call) int { return c.RetNumber(c.Num(1) - c.OptNum(2, 0)) }},
	{Name: "time", Call: osTime},
}

var processStart = time.Now()

// clock() returns seconds since the process started. Unlike Lua's it is not
// processor time, which would tell a script about its neighbours.
func osClock(c Call) int { return c.RetNumber(time.Since(processStart).Seconds()) }

func osTime(c Call) int {
	if c.Arg(1) == lua.LNil {
		return c.RetNumber(float64(time.Now().Unix()))
	}
	t := c.Table(1)
	field := func(name string, def int) int {
		f, ok := Number(t.RawGetString(name))
		if !ok {
			if def < 0 {
				c.Fail("field '%s' missing in date table", name)
			}
			return def
		}
		return ClampInt(f)
	}
	sec, minute, hour := field("sec", 0), field("min", 0), field("hour", 12)
	day, month, year := field("day", -1), field("month", -1), field("year", -1)
	when := time.Date(year, time.Month(month), day, hour, minute, sec, 0, time.Local)
	return c.RetNumber(float64(when.Unix()))
}

func osDate(c Call) int {
	format := c.OptStr(1, "%c")
	when := time.Now()
	if c.Arg(2) != lua.LNil {
		// A year has four digits at most.
		const most = 253402300799
		when = time.Unix(int64(min(max(c.Num(2), -most), most)), 0)
	}
	if f, ok := strings.CutPrefix(format, "!"); ok {
		format, when = f, when.UTC()
	}
	if strings.HasPrefix(format, "*t") {
		return c.Ret(c.dateTable(when))
	}
	c.Spend(len(format) >> 2) // a conversion takes some 200 nanoseconds
	s, ok := strftime(format, when, c.engine.limits.StringBytes)
	if !ok {
		c.TooLarge()
	}
	c.Allow(len(s))
	return c.RetString(s)
}

func (c Call) dateTable(t time.Time) *lua.LTable {
	tb := c.L.CreateTable(0, 9)
	for _, f := range []struct {
		name  string
		value int
	}{
		{"sec", t.Second()}, {"min", t.Minute()}, {"hour", t.Hour()},
		{"day", t.Day()}, {"month", int(t.Month())}, {"year", t.Year()},
		{"wday", int(t.Weekday()) + 1}, {"yday", t.YearDay()},
	} {
		tb.RawSetString(f.name, lua.LNumber(f.value))
	}
	tb.RawSetString("isdst", lua.LBool(t.IsDST()))
	return tb
}

// layouts are the conversions of strftime in the C locale that time.Format
// knows.
var layouts = map[byte]string{
	'a': "Mon", 'A': "Monday", 'b': "Jan", 'B': "January", 'h': "Jan",
	'c': "Mon Jan _2 15:04:05 2006", 'd': "02", 'D': "01/02/06", 'e': "_2",
	'F': "2006-01-02", 'H': "15", 'I': "03", 'm': "01", 'M': "04", 'p': "PM",
	'r': "03:04:05 PM", 'R': "15:04", 'S': "05", 'T': "15:04:05",
	'x': "01/02/06", 'X': "15:04:05", 'y': "06", 'Y': "2006", 'z': "-0700", 'Z': "MST",
}

// strftime reports false if the result would be longer than limit.
func strftime(format string, t time.Time, limit int) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if b.Len() > limit {
			return "", false
		}
		if format[i] != '%' || i+1 == len(format) {
			b.WriteByte(format[i])
			continue
		}
		i++
		if layout, ok := layouts[format[i]]; ok {
			b.WriteString(t.Format(layout))
			continue
		}
		switch format[i] {
		case 'C':
			fmt.Fprintf(&b, "%02d", t.Year()/100)
		case 'G':
			year, _ := t.ISOWeek()
			fmt.Fprintf(&b, "%d", year)
		case 'g':
			year, _ := t.ISOWeek()
			fmt.Fprintf(&b, "%02d", year%100)
		case 'j':
			fmt.Fprintf(&b, "%03d", t.YearDay())
		case 'n':
			b.WriteByte('\n')
		case 's':
			fmt.Fprintf(&b, "%d", t.Unix())
		case 't':
			b.WriteByte('\t')
		case 'u':
			fmt.Fprintf(&b, "%d", (int(t.Weekday())+6)%7+1)
		case 'U': // weeks begin on Sunday
			fmt.Fprintf(&b, "%02d", (t.YearDay()+6-int(t.Weekday()))/7)
		case 'V':
			_, week := t.ISOWeek()
			fmt.Fprintf(&b, "%02d", week)
		case 'w':
			fmt.Fprintf(&b, "%d", int(t.Weekday()))
		case 'W': // weeks begin on Monday
			fmt.Fprintf(&b, "%02d", (t.YearDay()+6-(int(t.Weekday())+6)%7)/7)
		case '%':
			b.WriteByte('%')
		default:
			b.WriteByte('%')
			b.WriteByte(format[i])
		}
	}
	return b.String(), b.Len() <= limit
}
