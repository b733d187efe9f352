package http1

import (
	"io"
	"net/http"
	"testing"

	"github.com/limpetlb/limpet/internal/testrace"
)

// TestAllocations bounds what a request and its response cost beside what
// reading a response costs in any case.
func TestAllocations(t *testing.T) {
	if testrace.Enabled {
		t.Skip("the race detector allocates")
	}
	s := serve(t, says(ok))
	rt := start(t, true, nil)
	r := newRequest(t, "GET", s.url, nil)
	allocations := testing.AllocsPerRun(200, func() {
		resp, err := rt.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	})
	const most = 19 // four are those of the server of this test
	if allocations > most {
		t.Errorf("%.0f allocations, at most %d are wanted", allocations, most)
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	for _, own := range []bool{false, true} {
		name := map[bool]string{false: "standard", true: "own"}[own]
		b.Run(name, func(b *testing.B) {
			s := serve(b, says(ok))
			rt := start(b, own, nil)
			r, err := http.NewRequestWithContext(b.Context(), "GET", s.url, nil)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := fetch(rt, r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
