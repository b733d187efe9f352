package acceptance_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/limpetlb/limpet"
)

// 64 clients that uploaded 31 MiB each to a script that had asked for their
// bodies made the process take 4.3 GB. All bodies together have a budget now.
func TestBodyBudget(t *testing.T) {
	const size, clients = 1 << 20, 8
	for _, tt := range []struct {
		name, listing string
		length        bool
		handler       http.HandlerFunc
		body          string
	}{
		{
			"requests", "-- HTTP_REQ\navi.http.set_request_body_buffer_size(32768)", true,
			func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }, strings.Repeat("x", size),
		},
		{
			"requests of unknown length", "-- HTTP_REQ\navi.http.set_request_body_buffer_size(32768)", false,
			func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }, strings.Repeat("x", size),
		},
		{
			"responses", "-- HTTP_RESP\navi.http.set_response_body_buffer_size(32768)", true,
			func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, strings.Repeat("x", size)) }, "",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var mu sync.Mutex
			statuses := map[int]int{}
			all, most := 0, 3
			if !tt.length {
				most = 2 // they get more room than they need
			}
			ready := make(chan struct{})
			// Everybody stays until all have come, those that are refused
			// apart.
			vs, err := limpet.New(limpet.Config{
				Scripts:   []limpet.Script{compile(t, "Bodies", tt.listing)},
				Scripting: limpet.Scripting{BodyBytes: 3*size + size/2},
			})
			if err != nil {
				t.Fatal(err)
			}
			come := func() {
				mu.Lock()
				defer mu.Unlock()
				if all++; all == clients {
					close(ready)
				}
			}
			h := vs.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				tt.handler(w, r)
				come()
				<-ready
			}))
			var wg sync.WaitGroup
			for range clients {
				wg.Go(func() {
					var body io.Reader
					if tt.body != "" {
						body = strings.NewReader(tt.body)
					}
					r := httptest.NewRequest("POST", "/", body)
					if !tt.length {
						r.ContentLength = -1
					}
					w := httptest.NewRecorder()
					h.ServeHTTP(w, r)
					if w.Code == 503 {
						if w.Header().Get("Retry-After") != "1" {
							t.Error("503 without Retry-After")
						}
						if tt.body != "" {
							come()
						}
					}
					mu.Lock()
					statuses[w.Code]++
					mu.Unlock()
				})
			}
			wg.Wait()
			if n := statuses[200]; n == 0 || n > most || statuses[503] != clients-n {
				t.Errorf("statuses %v, want at most %d with 200, the others with 503", statuses, most)
			}
			// When they have gone, there is room again.
			all = clients - 1
			ready = make(chan struct{})
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest("POST", "/", strings.NewReader(tt.body)))
			if w.Code != 200 {
				t.Errorf("the next request: %d", w.Code)
			}
		})
	}
	if _, err := limpet.New(limpet.Config{Scripting: limpet.Scripting{BodyBytes: -1}}); err == nil || !strings.Contains(err.Error(), "bodyBytes: -1: negative") {
		t.Error(err)
	}
}

// A body is whole, however it comes and whatever was said about its length.
func TestBodyIsWhole(t *testing.T) {
	for _, size := range []int{0, 1, 32<<10 - 1, 32 << 10, 32<<10 + 1, 100_000, 1 << 20} {
		for _, length := range []int64{-1, int64(size)} {
			want := strings.Repeat("abcdefg", size/7+1)[:size]
			var got []byte
			var err error
			server := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got, err = io.ReadAll(r.Body) })
			r := httptest.NewRequest("POST", "/", strings.NewReader(want))
			r.ContentLength = length
			vs, bad := limpet.New(limpet.Config{Scripts: []limpet.Script{compile(t, "Body", "-- HTTP_REQ\navi.http.set_request_body_buffer_size(1024)")}})
			if bad != nil {
				t.Fatal(bad)
			}
			w := httptest.NewRecorder()
			vs.Wrap(server).ServeHTTP(w, r)
			if errors.Join(err) != nil || string(got) != want || w.Code != 200 {
				t.Errorf("%d bytes, announced %d: status %d, %d bytes, %v", size, length, w.Code, len(got), err)
			}
		}
	}
}
