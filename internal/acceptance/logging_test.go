package acceptance_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/policy"
)

// byQuery is a handler that answers with the status in the query.
func byQuery(w http.ResponseWriter, r *http.Request) {
	switch r.URL.RawQuery {
	case "404":
		w.WriteHeader(http.StatusNotFound)
	case "500":
		w.WriteHeader(http.StatusInternalServerError)
	case "slow":
		<-time.After(3 * time.Second)
	}
}

// visit sends a request to the middleware without a connection, so that time
// may be virtual.
func visit(h http.Handler, target string) {
	r := httptest.NewRequest("GET", target, nil)
	r.RemoteAddr = "192.0.2.7:4711"
	h.ServeHTTP(httptest.NewRecorder(), r)
}

func TestLogClasses(t *testing.T) {
	// All in one second: requests that are significant, that a rule asks for,
	// that a script logs about, and others.
	load := func(h http.Handler) {
		for range 20 {
			visit(h, "/?404")
			visit(h, "/watched")
			visit(h, "/talk")
			visit(h, "/")
		}
	}
	for _, test := range []struct {
		name    string
		logging limpet.Logging
		want    map[string]int // lines by path and query
		told    int64          // how many suppressed ones a line tells of, a second later
	}{
		{"default", limpet.Logging{}, map[string]int{"/ 404": 20, "/watched 200": 20, "/talk 200": 20, "/ 200": 20}, 0},
		{"none of the rest", limpet.Logging{OtherRate: -1}, map[string]int{"/ 404": 20, "/watched 200": 20, "/talk 200": 20}, 0},
		{"throttled", limpet.Logging{SignificantRate: 3, FilteredRate: 8, OtherRate: 5}, map[string]int{"/ 404": 3, "/watched 200": 4, "/talk 200": 4, "/ 200": 5}, 17},
		{"only significant ones", limpet.Logging{FilteredRate: -1, OtherRate: -1}, map[string]int{"/ 404": 20}, 0},
		{"statuses that are normal", limpet.Logging{SignificantRate: -1, IgnoreStatuses: []policy.Range[int]{{Begin: 404, End: 410}}}, map[string]int{"/ 404": 20, "/watched 200": 20, "/talk 200": 20, "/ 200": 20}, 0},
		{"reasons that are normal", limpet.Logging{SignificantRate: -1, Ignore: []limpet.Significance{limpet.Status4xx}}, map[string]int{"/ 404": 20, "/watched 200": 20, "/talk 200": 20, "/ 200": 20}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var lines logged
				completed := 0
				vs := newVirtualService(t, limpet.Config{
					Logger: lines.logger(slog.LevelDebug), Logging: test.logging,
					Policies: limpet.Policies{HTTPRequest: []policy.RequestRule{{Name: "watch", Log: true, Match: policy.Match{
						Path: &policy.PathMatch{Op: policy.BeginsWith, Values: []string{"/watched"}},
					}}}},
					Scripts:    []limpet.Script{onRequest(t, "talk", `if avi.http.get_path() == "/talk" then avi.vs.log("here") end`)},
					OnComplete: func(limpet.Record) { completed++ },
				})
				h := vs.Wrap(http.HandlerFunc(byQuery))
				load(h)
				got := map[string]int{}
				for _, line := range lines.lines(t) {
					got[line["path"].(string)+" "+number(line["status"])]++
				}
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("lines (-want +got):\n%s", diff)
				}
				if completed != 80 {
					t.Errorf("OnComplete got %d records, want all 80", completed)
				}
				time.Sleep(time.Second)
				visit(h, "/?404")
				if test.logging.SignificantRate > 0 {
					all := lines.lines(t)
					if got := all[len(all)-1]["suppressed"]; got != float64(test.told) {
						t.Errorf("the next line tells of %v suppressed ones, want %d", got, test.told)
					}
				}
			})
		})
	}
}

// A client made lines of 190 KB, with a path that each escape triples, and of
// half a megabyte with a header that an error quoted. Each text of a line ends
// after 4 KiB. The record has all of it.
func TestLongTextsInLogs(t *testing.T) {
	const most = 4 << 10
	long := strings.Repeat("\xff", 15_000)
	for name, test := range map[string]struct {
		request string
		whole   func(limpet.Record) int // the length of what is long in the record
	}{
		"path":   {"GET /" + long + " HTTP/1.1\nHost: a\n", func(r limpet.Record) int { return len(r.Path) }},
		"method": {strings.Repeat("M", 15_000) + " / HTTP/1.1\nHost: a\n", func(r limpet.Record) int { return len(r.Method) }},
		"host":   {"GET / HTTP/1.1\nHost: " + strings.Repeat("h", 15_000) + "\n", func(r limpet.Record) int { return len(r.Host) }},
		"user":   {"GET / HTTP/1.1\nHost: a\nX-User: " + long + "\n", func(r limpet.Record) int { return len(r.UserID) }},
		"header": {"GET / HTTP/1.1\nHost: a\nUser-Agent: " + long + "\n", func(r limpet.Record) int { return len(r.RequestHeader.Get("User-Agent")) }},
	} {
		t.Run(name, func(t *testing.T) {
			var lines logged
			recs := newRecords()
			vs := newVirtualService(t, limpet.Config{
				Logger: lines.logger(slog.LevelDebug), OnComplete: recs.add,
				Policies: limpet.Policies{HTTPRequest: []policy.RequestRule{{Name: "log", Log: true, LogHeaders: name == "header"}}},
				Scripts:  []limpet.Script{onRequest(t, "names", `avi.http.set_userid(avi.http.get_header("x-user") or "")`)},
			})
			s := startSite(t, http1, listen(t, ""), vs.Wrap(http.HandlerFunc(byQuery)))
			_, _ = io.Copy(io.Discard, send(t, s.dial(t, ""), test.request+"Connection: close\n\n"))
			if n := test.whole(recs.next(t)); n < 10_000 {
				t.Errorf("the record has %d bytes of it", n)
			}
			for _, line := range lines.lines(t) {
				for key, value := range line {
					if n := utf8.RuneCountInString(fmt.Sprint(value)); n > most+100 {
						t.Errorf("%s has %d characters", key, n)
					}
				}
			}
		})
	}
}

func number(v any) string {
	if v == float64(404) {
		return "404"
	}
	return "200"
}

func TestLoggingFaults(t *testing.T) {
	_, err := limpet.New(limpet.Config{Logging: limpet.Logging{
		SignificantRate: -2, FilteredRate: -3, OtherRate: -4, // none
		SlowResponse: -time.Second,
		Ignore:       []limpet.Significance{limpet.Status4xx, 99}, IgnoreStatuses: []policy.Range[int]{{Begin: 200, End: 599}, {Begin: 404, End: 403}},
	}})
	want := `logging.slowResponse: -1s: negative
logging.ignore[1]: 99: not one of dropped by policy, rate limited, script failed, closed by script, refused by script, persistent server changed, no server available, server failed, server timed out, another server tried, slow response, client gone, status 4xx, status 5xx, no valid PROXY header, server ambiguous, persistence cookie invalid
logging.ignoreStatuses[0]: 200-599 is not a range from 400 to 599
logging.ignoreStatuses[1]: 404-403 is not a range from 400 to 599`
	if err == nil || err.Error() != want {
		t.Errorf("got error:\n%v\nwant:\n%s", err, want)
	}
}

// someGeo knows one country, and panics about another address.
type someGeo struct{}

func (someGeo) Locate(addr netip.Addr, attribute string) (string, bool) {
	if addr == netip.MustParseAddr("192.0.2.13") {
		panic("no such address")
	}
	return "NL" + attribute, true
}

func TestRecordDetails(t *testing.T) {
	var rec limpet.Record
	cfg := limpet.Config{
		Geo: someGeo{},
		Policies: limpet.Policies{HTTPRequest: []policy.RequestRule{{Name: "move", LogHeaders: true, Action: policy.Modify{Rewrite: policy.RewriteURL{Path: "/new"}}, Match: policy.Match{
			Path: &policy.PathMatch{Op: policy.Equals, Values: []string{"/old"}},
		}}}},
		Scripts: []limpet.Script{
			onRequest(t, "ask", `avi.http.set_userid("anna") avi.vs.log(avi.http.get_request_id())
				if avi.http.get_path() == "/refused" then avi.http.response(403) end`),
			onResponse(t, "cover up", `if avi.http.status() == "503" then avi.http.response(200, {}, "fine") end`),
		},
		Logging:    limpet.Logging{SlowResponse: 2 * time.Second},
		OnComplete: func(r limpet.Record) { rec = r },
	}
	synctest.Test(t, func(t *testing.T) {
		h := newVirtualService(t, cfg).Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.RawQuery == "503":
				w.WriteHeader(http.StatusServiceUnavailable)
			default:
				byQuery(w, r)
			}
		}))
		r := httptest.NewRequest("GET", "/old?slow", nil)
		r.Header = http.Header{"Authorization": {"Basic c2VjcmV0"}, "Cookie": {"a=secret", "b=secret"}, "X-Colour": {"green"}}
		h.ServeHTTP(httptest.NewRecorder(), r)
		if rec.Location != "NL" || rec.SentPath != "/new" || rec.UserID != "anna" || len(rec.RequestID) != 32 || rec.ServerStatus != 200 || !rec.Filtered ||
			rec.FirstByte != 3*time.Second || !slices.Contains(rec.Significant, limpet.SlowResponse) {
			t.Errorf("got %+v", rec)
		}
		want := http.Header{"Authorization": {"[redacted]"}, "Cookie": {"[redacted]"}, "X-Colour": {"green"}}
		if diff := cmp.Diff(want, rec.RequestHeader); diff != "" {
			t.Errorf("header (-want +got):\n%s", diff)
		}
		if r.Header.Get("Cookie") != "a=secret" {
			t.Error("the request's own header was redacted")
		}

		visit(h, "/?503")
		if rec.ServerStatus != 503 || rec.Status != 200 || rec.RequestHeader != nil || rec.SentPath != "" {
			t.Errorf("covered up: got %+v", rec)
		}
		visit(h, "/refused")
		if rec.ServerStatus != 0 || rec.FirstByte != 0 || !slices.Contains(rec.Significant, limpet.ScriptRefused) {
			t.Errorf("refused: got %+v", rec)
		}
		r = httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = "192.0.2.13:1"
		h.ServeHTTP(httptest.NewRecorder(), r)
		if rec.Location != "" || rec.Status != 200 {
			t.Errorf("geo panics: got %+v", rec)
		}
	})
}

func TestSignificanceCodes(t *testing.T) {
	seen := map[string]limpet.Significance{}
	for s := limpet.PolicyDrop; s <= limpet.Status5xx; s++ {
		code, text := s.Code(), s.String()
		if !strings.HasPrefix(code, "ADF_") || text == "invalid" {
			t.Errorf("%d has code %q and text %q", s, code, text)
		}
		if other, ok := seen[code]; ok {
			t.Errorf("%v and %v share the code %s", s, other, code)
		}
		seen[code] = s
	}
	if got := limpet.Significance(99).Code(); got != "invalid" {
		t.Errorf("unknown: %s", got)
	}
}

func TestExplain(t *testing.T) {
	var completed int
	vs := newVirtualService(t, limpet.Config{
		Clients: limpet.Clients{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},
		Policies: limpet.Policies{
			NetworkSecurity: []policy.NetworkRule{{Name: "blocked", Action: policy.ActionReset, Match: policy.NetworkMatch{ClientIP: &policy.IPMatch{Groups: []string{"Blacklist"}}}}},
			HTTPSecurity: []policy.SecurityRule{{Name: "one a minute", Action: policy.RateLimit{Limit: policy.RateLimiterConfig{Rate: policy.Rate{Count: 1, Period: time.Minute}}},
				Match: policy.Match{Path: &policy.PathMatch{Op: policy.BeginsWith, Values: []string{"/login"}}}}},
			HTTPRequest: []policy.RequestRule{{Name: "moved", Action: policy.Redirect{Protocol: policy.HTTP, Path: "/new"}, Match: policy.Match{Path: &policy.PathMatch{Op: policy.Equals, Values: []string{"/old"}}}}},
		},
		IPGroups:   newGroups(t, "Blacklist", "203.0.113.0/24"),
		Scripts:    []limpet.Script{onRequest(t, "first", `avi.http.response(500)`)},
		OnComplete: func(limpet.Record) { completed++ },
	})
	r := httptest.NewRequest("GET", "/old", nil)
	r.RemoteAddr = "10.0.0.1:99"
	r.Header.Set("X-Forwarded-For", "203.0.113.9")
	got := vs.Explain(r)
	for _, part := range []string{
		"client 203.0.113.9:0 by way of 10.0.0.1:99\n", "network security:\n", `rules[0] "blocked"`, "HTTP security:\n", `rules[0] "one a minute"`,
		"HTTP request:\n", `rules[0] "moved" decides: redirect 302`, "scripts, which were not run: first\n",
	} {
		if !strings.Contains(got, part) {
			t.Errorf("explanation lacks %q:\n%s", part, got)
		}
	}
	for range 5 {
		vs.Explain(httptest.NewRequest("GET", "/login", nil)) // takes nothing from the limit
	}
	if completed != 0 {
		t.Errorf("explaining made %d records", completed)
	}
	visit(vs.Wrap(http.HandlerFunc(byQuery)), "/login")
	if completed != 1 || vs.Stats().PolicyDrops != 0 {
		t.Errorf("after explaining, a request: %d records, %d drops", completed, vs.Stats().PolicyDrops)
	}
}

// A lateLogger is enabled from some question on.
type lateLogger struct {
	slog.Handler
	left int
}

// Enabled implements [slog.Handler].
func (l *lateLogger) Enabled(context.Context, slog.Level) bool {
	l.left--
	return l.left < 0
}

// A log that begins at any moment of a request has its whole line, or none.
func TestLogBegins(t *testing.T) {
	lines := 0
	for left := range 12 {
		var text strings.Builder
		late := &lateLogger{slog.NewTextHandler(&text, nil), 0}
		vs := newVirtualService(t, limpet.Config{Logger: slog.New(late)})
		h := vs.Wrap(http.HandlerFunc(byQuery))
		text.Reset()
		late.left = left
		visit(h, "/x?404")
		if got := text.String(); got != "" && (!strings.Contains(got, "method=GET") || !strings.Contains(got, "path=/x")) {
			t.Errorf("after %d questions: %s", left, got)
		}
		lines += strings.Count(text.String(), "\n")
	}
	if lines == 0 {
		t.Error("no lines")
	}
}
