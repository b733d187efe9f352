package lua51

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/limpetlb/limpet/internal/oneline"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var full = flag.Bool("full", false, "run the long form of tests that have one")

var errBusy = errors.New("busy")

// A host is the least that runs scripts: it has print and log, which write
// lines, and the position of the call in front of each, and a library of its
// own.
type host struct {
	*Engine
	states              sync.Pool
	failures, discarded atomic.Int64
}

func newHost(limits Limits) *host {
	lib := NewLibrary()
	write := func(separator string) func(Call) int {
		return func(c Call) int {
			var b strings.Builder
			b.WriteString(c.Position())
			for n := 1; n <= c.Count(); n++ {
				if n > 1 {
					b.WriteString(separator)
				}
				b.WriteString(c.ToString(c.Arg(n)))
			}
			r := c.Host().(*record)
			r.logs = append(r.logs, oneline.Escape(b.String()))
			return 0
		}
	}
	lib.Declare("", []Entry{{Name: "print", Call: write("\t")}, {Name: "log", Call: write("")}})
	lib.Declare("lib", []Entry{{Name: "f", Call: func(Call) int { return 0 }}})
	if limits.Time == 0 {
		limits.Time = 10 * time.Second // a busy machine must not fail scripts
	}
	return &host{Engine: NewEngine(Config{Library: lib, Limits: limits, Busy: errBusy})}
}

// A record is what a transaction has written, and its variables.
type record struct {
	logs []string
	vars Variables
}

// logged returns the lines without the position in front.
func (r *record) logged() []string {
	var out []string
	for _, l := range r.logs {
		_, text, _ := strings.Cut(l, ": ")
		out = append(out, text)
	}
	return out
}

// compile compiles sources to one script.
func (h *host) compile(sources ...string) (*Script, error) {
	var trees []*Tree
	for _, source := range sources {
		tree, err := Parse("My Script", Source{Text: source})
		if err != nil {
			return nil, err
		}
		trees = append(trees, tree)
	}
	return Compile("My Script", h.library, nil, trees...)
}

func (h *host) mustCompile(t testing.TB, sources ...string) *Script {
	t.Helper()
	s, err := h.compile(sources...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// exec runs one program of a script.
func (h *host) exec(ctx context.Context, p *Program, r *record) error {
	if err := h.Gate().Enter(ctx, r.vars.Held()); err != nil {
		return err
	}
	st, _ := h.states.Get().(*State)
	if st == nil {
		st = h.NewState()
	}
	out := st.Run(ctx, p, &r.vars, r)
	st.Leave()
	if out.Healthy {
		h.states.Put(st)
	} else {
		h.discarded.Add(1)
	}
	if out.Failure != nil {
		h.failures.Add(1)
		return out.Failure
	}
	return nil
}

// run compiles a source and runs it for a transaction of its own.
func (h *host) run(t testing.TB, source string) (*record, error) {
	t.Helper()
	r := &record{}
	return r, h.exec(t.Context(), h.mustCompile(t, source).Programs()[0], r)
}

// quoteLua writes a string that may hold any bytes.
func quoteLua(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range []byte(s) {
		fmt.Fprintf(&b, `\%03d`, c)
	}
	b.WriteByte('"')
	return b.String()
}

// revealing are words that scripts must never see.
var revealing = regexp.MustCompile(`runtime error|goroutine|interface conversion|lua\.L|panic|nil pointer|0x[0-9a-f]{8,}|\.go:|gopher`)
