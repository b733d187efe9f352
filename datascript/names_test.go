package datascript

import (
	"testing"
	"time"

	"github.com/limpetlb/limpet/internal/lua51"
)

// A symbol is a predefined name, of Lua or of the API, as tests look at it.
type symbol struct {
	*lua51.Symbol
	call   func(call) int // nil unless it is a function
	events eventSet
}

func (s *symbol) field() string { return s.Field() }

var symbols = map[string]*symbol{}

func init() {
	for _, name := range library.Names() {
		s := &symbol{Symbol: library.Lookup(name), events: anyEvent}
		if f := functions[name]; f != nil {
			s.call, s.events = f.call, f.events
		} else if s.IsFunction() {
			s.call = func(call) int { panic("one of Lua's own") }
		}
		symbols[name] = s
	}
}

// The defaults of Limits.
const (
	defaultInstructions = 1_000_000
	defaultTime         = 300 * time.Millisecond
	defaultHostTime     = 5 * time.Second
	defaultAllocBytes   = 64 << 20
	defaultErrorBytes   = 4 << 10
	defaultWait         = 30 * time.Second
)

func TestDefaultLimits(t *testing.T) {
	l := Limits{}.withDefaults()
	if l.Instructions != defaultInstructions || l.Time != defaultTime || l.HostTime != defaultHostTime ||
		l.AllocBytes != defaultAllocBytes || l.ErrorBytes != defaultErrorBytes || l.Wait != defaultWait ||
		l.LogLines != defaultLogLines || l.LogBytes != defaultLogBytes || l.StringBytes != 1<<20 || l.CallDepth != 200 || l.Waiting != 4096 {
		t.Errorf("%+v", l)
	}
}
