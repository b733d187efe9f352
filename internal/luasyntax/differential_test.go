package luasyntax_test

import (
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/limpetlb/limpet/internal/testrace"
)

// mutants is how many sources each generating test tries. LIMPET_MUTANTS sets
// another number. The race
// detector is slow and finds nothing in one goroutine, so there are fewer then.
func mutants(t *testing.T, normal int) int {
	s := os.Getenv("LIMPET_MUTANTS")
	switch {
	case s == "" && testrace.Enabled:
		return normal / 10
	case s == "" && testing.Short():
		return normal / 10
	case s == "":
		return normal
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("LIMPET_MUTANTS: %v", err)
	}
	return n
}

// seeds returns the programs of testdata.
func seeds(t testing.TB) []string {
	t.Helper()
	all, err := os.ReadFile("testdata/seeds.lua")
	if err != nil {
		t.Fatal(err)
	}
	programs := strings.Split(string(all), "\n---- ")
	if len(programs) < 40 {
		t.Fatalf("only %d programs", len(programs))
	}
	for i, p := range programs {
		_, programs[i], _ = strings.Cut(p, "\n") // the heading
	}
	return programs
}

// split cuts a source into pieces that are roughly tokens, blanks included;
// joined they are the source again.
func split(source string) []string {
	class := func(c byte) int {
		switch {
		case c == ' ':
			return 1
		case c == '_' || '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z':
			return 2
		}
		return 3
	}
	var pieces []string
	for start := 0; start < len(source); {
		end := start + 1
		for c := class(source[start]); c != 3 && end < len(source) && class(source[end]) == c; {
			end++
		}
		pieces = append(pieces, source[start:end])
		start = end
	}
	return pieces
}

// strays are inserted by mutation: every keyword and symbol, and the bytes and
// fragments that lexers trip over.
var strays = strings.Fields(`and break do else elseif end false for function if in local nil not or repeat
	return then true until while + - * / % ^ # == ~= <= >= < > = ( ) { } [ ] ; : , . .. ... a b f 1 0x10 0x 1e 1e+ 0x1p4
	.5 5. 1..2 'q' "d" "a\065" '\256' '\x' [[l]] [==[l]==] [=[ [= [[ ]] ]==] -- --[[ --[==[ ' " \ ~ ! @ $ & | ? goto ::l::
	function() x=1 (a) a.b a:b a[1] a:b() return; break; //`)

var strayBytes = []string{"\x00", "\n", "\r", "\r\n", "\n\r", "\t", "\v", "\f", "\a", "\x1b", "\x7f", "\x80", "\xff", "é", " ", "\\\n"}

func mutate(r *rand.Rand, pieces []string) string {
	p := append([]string(nil), pieces...)
	for range 1 + r.IntN(3) {
		if len(p) < 2 {
			break
		}
		i, j := r.IntN(len(p)), r.IntN(len(p))
		insert := func(s string) { p = append(p[:i], append([]string{s}, p[i:]...)...) }
		switch r.IntN(10) {
		case 0, 1: // delete
			p = append(p[:i], p[i+1:]...)
		case 2: // duplicate
			insert(p[i])
		case 3: // swap
			p[i], p[j] = p[j], p[i]
		case 4: // truncate
			p = p[:i+1]
		case 5: // replace
			p[i] = strays[r.IntN(len(strays))]
		case 6: // insert a word
			insert(" " + strays[r.IntN(len(strays))] + " ")
		case 7: // insert, glued
			insert(strays[r.IntN(len(strays))])
		case 8: // insert a byte, also inside a piece
			s := strayBytes[r.IntN(len(strayBytes))]
			cut := r.IntN(len(p[i]) + 1)
			p[i] = p[i][:cut] + s + p[i][cut:]
		case 9: // move a piece from elsewhere
			insert(p[j])
		}
	}
	return strings.Join(p, "")
}

func TestMutantsAgreeWithReference(t *testing.T) {
	programs := seeds(t)
	r := rand.New(rand.NewPCG(1, 51))
	sources := programs
	pieces := make([][]string, len(programs))
	for i, p := range programs {
		pieces[i] = split(p)
	}
	for range mutants(t, 30_000) {
		m := mutate(r, pieces[r.IntN(len(pieces))])
		if strings.HasPrefix(m, "\x1b") {
			continue // compiled code to PUC Lua
		}
		sources = append(sources, m)
	}
	accepted := compare(t, sources)
	t.Logf("%d sources, %d accepted", len(sources), len(accepted))
	if n := len(accepted); n < len(sources)/20 || n > len(sources)/2 {
		t.Errorf("%d of %d accepted: the mutations are too hard or too soft", n, len(sources))
	}
	checkVMAccepts(t, accepted)
}
