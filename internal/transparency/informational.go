package transparency

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"sync/atomic"
)

// informationalCases are about responses before the response.
var informationalCases = []testCase{
	{"early hints", either, both, earlyHints},
	{"expect continue", either, both, expectContinue},
	{"expect continue, many times", either, only1, expectContinueManyTimes},
}

func earlyHints(p *probe) {
	s := p.start(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Set("Link", "</script.js>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		w.WriteHeader(http.StatusAccepted)
	})
	var hints []string
	r := s.request("GET", "/", nil)
	r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			hints = append(hints, fmt.Sprint(code, h["Link"]))
			return nil
		},
	}))
	res, _ := s.fetch(r)
	if want := []string{"103 [</style.css>; rel=preload]", "103 [</script.js>; rel=preload]"}; !slices.Equal(hints, want) {
		p.errorf("hints %q, want %q", hints, want)
	}
	if res.StatusCode != http.StatusAccepted || res.Header["Link"] != nil {
		p.errorf("%s %v", res.Status, res.Header)
	}
}

// expecting is a handler that accepts the body or refuses it.
func expecting(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/refused" {
		w.WriteHeader(http.StatusExpectationFailed)
		return
	}
	_, _ = io.Copy(w, r.Body)
}

// A body that the client offers is sent if the handler wants it.
func expectContinue(p *probe) {
	s := p.start(expecting)
	for range 3 {
		r := s.request("PUT", "/accepted", strings.NewReader("the body"))
		r.Header.Set("Expect", "100-continue")
		if res, got := s.fetch(r); res.StatusCode != 200 || got != "the body" {
			p.errorf("accepted: %s %q", res.Status, got)
		}
		body := &counted{r: strings.NewReader("the body")}
		r = s.request("PUT", "/refused", body)
		r.Header.Set("Expect", "100-continue")
		if res, _ := s.fetch(r); res.StatusCode != http.StatusExpectationFailed {
			p.errorf("refused: %s", res.Status)
		}
		// Of HTTP/2, net/http hides the expectation: a proxy cannot pass it on.
		if passed := p.target.Middleware != nil || p.protocol.major() == 1; passed && body.n.Load() > 0 {
			p.errorf("%d bytes of a refused body were sent", body.n.Load())
		}
	}
}

// counted counts what was read of it.
type counted struct {
	r io.Reader
	n atomic.Int64
}

// Read reads from r.
func (c *counted) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n.Add(int64(n))
	return n, err
}

// Whatever comes of an expectation, the next request gets its own answer: on
// the same connection, or on another if this one is closed.
func expectContinueManyTimes(p *probe) {
	s := p.start(expecting)
	for i := range p.many {
		content := fmt.Sprint("body ", i)
		var r *http.Request
		switch i % 3 {
		case 0:
			r = s.request("PUT", "/refused", strings.NewReader(content))
			r.Header.Set("Expect", "100-continue")
			content = ""
		case 1:
			r = s.request("PUT", "/accepted", strings.NewReader(content))
			r.Header.Set("Expect", "100-continue")
		case 2:
			r = s.request("PUT", "/accepted", strings.NewReader(content))
		}
		res, got := s.fetch(r)
		if got != content || res.StatusCode != map[bool]int{true: 417, false: 200}[i%3 == 0] {
			p.fatalf("request %d: %s %q", i, res.Status, got)
		}
	}
}
