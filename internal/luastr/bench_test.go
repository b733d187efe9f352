package luastr

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/yuin/gopher-lua/pm"
)

// BenchmarkMatch compares the matcher with the one of the Lua machine we embed,
// in one run: ns/op and allocations are ours, x-pm is our time divided by
// theirs. The budget is 0.3.
func BenchmarkMatch(b *testing.B) {
	line := "GET /api/v1/users/42?fields=name,mail&sort=asc HTTP/1.1"
	for _, bm := range []struct {
		name, subject, pattern string
		limit                  int // matches to find, -1 for all
	}{
		{"literal", line, "users", 1},
		{"literal missing", line, "nothing", 1},
		{"captures", line, "^(%u+) (%S+) HTTP/(%d)%.(%d)$", 1},
		{"lazy", line, "%?(.-) ", 1},
		{"pairs", line, "(%w+)=([^&%s]*)", -1},
		{"class", line, "%d+", -1},
		{"set", line, "[?&=]", -1},
		{"trim", "   some value   ", "^%s*(.-)%s*$", 1},
		{"escape 32 KiB", strings.Repeat("some text <b>", 32<<10/13), `[<>&"]`, -1},
	} {
		b.Run(bm.name, func(b *testing.B) {
			ours := func() {
				var m Matcher
				budget := math.MaxInt
				m.Init(bm.subject, bm.pattern, &budget)
				if bm.limit == 1 {
					m.Match(0)
					return
				}
				for start := 0; start >= 0; {
					start, _, _ = m.Next()
				}
			}
			theirs := func() { pm.Find(bm.pattern, []byte(bm.subject), 0, bm.limit) }
			b.ReportAllocs()
			for b.Loop() {
				ours()
			}
			b.ReportMetric(perCall(ours)/perCall(theirs), "x-pm")
		})
	}
}

// perCall returns the seconds a call takes, the best of some rounds of about 2
// ms.
func perCall(f func()) float64 {
	f()
	n := 1
	for best := time.Hour; ; n *= 2 {
		for range 5 {
			start := time.Now()
			for range n {
				f()
			}
			best = min(best, time.Since(start))
		}
		if best > 2*time.Millisecond {
			return best.Seconds() / float64(n)
		}
		best = time.Hour
	}
}

func BenchmarkGsub(b *testing.B) {
	for _, bm := range []struct{ name, subject, pattern, repl string }{
		{"short", "a b c d", " ", "+"},
		{"escape 32 KiB", strings.Repeat("some text <b>", 32<<10/13), `[<>&"]`, "&#%0;"},
		{"no match 32 KiB", strings.Repeat("some text", 32<<10/9), `[<>&"]`, "&#%0;"},
		{"every byte 1 MiB", strings.Repeat("a", 1<<20), "a", "b"},
	} {
		b.Run(bm.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(bm.subject)))
			for b.Loop() {
				budget := math.MaxInt
				var m Matcher
				m.Init(bm.subject, bm.pattern, &budget)
				if _, _, err := m.Gsub(bm.repl, AllMatches, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkFormat(b *testing.B) {
	var args FormatArgs = luaArgs{"10.1.2.3", 8080.0, 12.5}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Format("%s:%d took %.3f ms", args, 0); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFormatWorst is the dearest directive there is.
func BenchmarkFormatWorst(b *testing.B) {
	for _, format := range []string{"%99.99f", "%.99e", "%#.99g"} {
		b.Run(format, func(b *testing.B) {
			var args FormatArgs = luaArgs{1.2345678901234567e-308}
			for b.Loop() {
				if _, err := Format(format, args, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkNumber(b *testing.B) {
	b.Run("format integer", func(b *testing.B) {
		b.ReportAllocs()
		var buf [32]byte
		for b.Loop() {
			AppendNumber(buf[:0], 8080)
		}
	})
	b.Run("format fraction", func(b *testing.B) {
		b.ReportAllocs()
		var buf [32]byte
		for b.Loop() {
			AppendNumber(buf[:0], 3.14159)
		}
	})
	b.Run("parse", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			ParseNumber("300")
		}
	})
}
