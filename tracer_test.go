package limpet

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/limpetlb/limpet/internal/testrace"
)

const (
	traceID     = "0af7651916cd43dd8448eb211c80319c"
	traceparent = "00-" + traceID + "-b7ad6b7169203331-01"
)

// The identifier of a trace is that of a valid header, which stands once.
func TestTraceOf(t *testing.T) {
	for name, tt := range map[string]struct {
		values []string
		want   string
	}{
		"valid":              {[]string{traceparent}, traceID},
		"not sampled":        {[]string{"00-" + traceID + "-b7ad6b7169203331-00"}, traceID},
		"later version":      {[]string{"cc-" + traceID + "-b7ad6b7169203331-01"}, traceID},
		"later with more":    {[]string{"cc-" + traceID + "-b7ad6b7169203331-01-what the future will be like"}, traceID},
		"later with rubbish": {[]string{"cc-" + traceID + "-b7ad6b7169203331-01.what"}, ""},
		"missing":            {nil, ""},
		"empty":              {[]string{""}, ""},
		"twice":              {[]string{traceparent, traceparent}, ""},
		"more of version 0":  {[]string{traceparent + "-01"}, ""},
		"version ff":         {[]string{"ff" + traceparent[2:]}, ""},
		"capital letters":    {[]string{strings.ToUpper(traceparent)}, ""},
		"zero trace":         {[]string{"00-" + strings.Repeat("0", 32) + "-b7ad6b7169203331-01"}, ""},
		"zero parent":        {[]string{"00-" + traceID + "-0000000000000000-01"}, ""},
		"short":              {[]string{traceparent[:54]}, ""},
		"other separator":    {[]string{strings.ReplaceAll(traceparent, "-", "_")}, ""},
		"flags":              {[]string{traceparent[:53] + "0g"}, ""},
		"long":               {[]string{strings.Repeat("0", 64<<10)}, ""},
		"quoted":             {[]string{`"` + traceparent[:53] + `"`}, ""},
	} {
		if got := traceOf(http.Header{"Traceparent": tt.values}); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

func FuzzTraceOf(f *testing.F) {
	f.Add(traceparent)
	f.Add("cc" + traceparent[2:] + "-x")
	f.Add(strings.Repeat("-", 55))
	f.Fuzz(func(t *testing.T, value string) {
		id := traceOf(http.Header{"Traceparent": {value}})
		if id != "" && (len(id) != 32 || !strings.HasPrefix(value[3:], id) || !isLowerHex(id)) {
			t.Errorf("%q has %q", value, id)
		}
	})
}

// untraced is a transaction without a tracer, whose client sends the header of
// a trace.
func untraced(t testing.TB) *transaction {
	t.Helper()
	vs, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Traceparent", traceparent)
	tx := newTransaction(vs, vs.current.Load(), httptest.NewRecorder(), r)
	tx.proxied = true
	return tx
}

// offSteps is all that a request without a tracer does because there could be
// one.
func offSteps(tx *transaction) string {
	tx.startTrace()
	for range 5 { // scripts, an attempt, the queue and its end, the try
		if tx.observed() != nil {
			return ""
		}
	}
	tx.keepExemplar(&tx.vs.counters.exemplars, 1)
	id := traceOf(tx.r.Header)
	tx.endTrace()
	return id
}

// Without a tracer, requests allocate nothing for one.
func TestTracerOffAllocations(t *testing.T) {
	if testrace.Enabled {
		t.Skip("the race detector allocates")
	}
	tx := untraced(t)
	if n := testing.AllocsPerRun(100, func() {
		if offSteps(tx) != traceID {
			t.Error("no identifier")
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkTracerOff is what the possibility of a tracer costs a request that
// has none, with the header of a trace and a reader of records.
func BenchmarkTracerOff(b *testing.B) {
	tx := untraced(b)
	b.ReportAllocs()
	for b.Loop() {
		offSteps(tx)
	}
}
