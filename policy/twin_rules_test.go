package policy

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// outcomeTwin is what the rules of a request or response policy come to.
type outcomeTwin struct {
	Applied, Monitored []string
	Ended              string // the rule that ended the request
	Location           string
	Header             []string // of X-Out
	Query, Pool        string
}

// slowRedirect is the Location of https://host[0].x/path[1], the only kind
// that is drawn; false if there is none.
func slowRedirect(r *http.Request) (string, bool) {
	hostname := r.Host
	if i := strings.LastIndex(hostname, ":"); i > strings.LastIndex(hostname, "]") {
		hostname = hostname[:i]
	}
	segments := strings.Split(r.URL.EscapedPath(), "/")[1:]
	if hostname == "" || strings.HasPrefix(hostname, "[") || len(segments) < 2 {
		return "", false
	}
	clean := strings.NewReplacer(`\`, "%5C")
	location := "https://" + strings.Split(hostname, ".")[0] + ".x/" + clean.Replace(segments[1])
	if r.URL.RawQuery != "" {
		location += "?" + strings.ReplaceAll(r.URL.RawQuery, "\u212a", "%E2%84%AA")
	}
	return location, true
}

// slowRequest goes through the rules one by one, on the request as received.
func slowRequest(rules []RequestRule, tx *fakeTx) outcomeTwin {
	out := outcomeTwin{Query: tx.request.URL.RawQuery}
	for _, r := range rules {
		if _, selected := slowMatch(r.Match, twinEnv, tx); !selected || r.Disabled {
			continue
		}
		location := ""
		if _, ok := r.Action.(Redirect); ok {
			if location, ok = slowRedirect(tx.request); !ok {
				continue
			}
		}
		if r.DryRun {
			out.Monitored = append(out.Monitored, r.Name)
			continue
		}
		a, ok := r.Action.(Modify)
		if !ok {
			return outcomeTwin{Monitored: out.Monitored, Ended: r.Name, Location: location, Query: tx.request.URL.RawQuery}
		}
		out.Applied = append(out.Applied, r.Name)
		for range a.Edits {
			out.Header = append(out.Header, r.Name)
		}
		if a.Rewrite.DropQuery {
			out.Query = ""
		}
		out.Query = strings.Trim(out.Query+"&"+a.Rewrite.AddQuery, "&")
		if out.Pool == "" {
			out.Pool = a.Pool.Name
		}
	}
	return out
}

func drawRequestAction(t *rapid.T, name string) RequestAction {
	switch rapid.IntRange(0, 5).Draw(t, "action") {
	case 0:
		return Redirect{Protocol: HTTPS, Host: "host[0].x", Path: "path[1]"}
	case 1:
		return Respond{Status: 404}
	}
	m := Modify{Edits: []Edit{AddHeader{"X-Out", name}}}
	if rapid.Bool().Draw(t, "pool") {
		m.Pool = SwitchPool{Name: name, Server: netip.AddrPort{}}
	}
	m.Rewrite.DropQuery = rapid.Bool().Draw(t, "dropQuery")
	m.Rewrite.AddQuery = rapid.SampledFrom([]string{"", "z=1"}).Draw(t, "addQuery")
	return m
}

func monitored(v Verdict) (names []string) {
	for _, o := range v.Monitored {
		names = append(names, o.Rule)
	}
	return names
}

func TestHTTPRequestAgainstInterpreter(t *testing.T) {
	t.Parallel()
	endings, changes, decisions := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		var rules []RequestRule
		for i := range rapid.IntRange(1, 8).Draw(t, "rules") {
			name := fmt.Sprint("r", i)
			rules = append(rules, RequestRule{Name: name, Match: drawMatch(t), Action: drawRequestAction(t, name),
				Disabled: rapid.IntRange(0, 9).Draw(t, "disabled") == 0, DryRun: rapid.IntRange(0, 9).Draw(t, "dryRun") == 0})
		}
		p, err := NewHTTPRequest(rules, twinEnv)
		if err != nil {
			t.Fatal(err)
		}
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		for range requestsPerPolicy() {
			tx := randomTx(random)
			v := p.Evaluate(tx)
			got := outcomeTwin{Applied: v.Applied, Monitored: monitored(v), Location: tx.header.Get("Location"), Query: tx.request.URL.RawQuery, Pool: tx.pool}
			if v.Ended {
				got.Ended = v.Rule
				endings++
			}
			if tx.sent != nil {
				got.Header, got.Query = tx.sent.Header["X-Out"], tx.sent.URL.RawQuery
				changes++
			}
			if want := slowRequest(rules, tx); !reflect.DeepEqual(got, want) || v.Err != nil {
				t.Fatalf("%s %s host %q: %+v %s", tx.request.Method, tx.request.URL, tx.request.Host, v, cmp.Diff(want, got))
			}
			decisions++
		}
	})
	if !t.Failed() && (endings*20 < decisions || changes*20 < decisions) {
		t.Errorf("of %d requests, %d ended and %d were changed: the test says little", decisions, endings, changes)
	}
}

func TestHTTPResponseAgainstInterpreter(t *testing.T) {
	t.Parallel()
	changes, decisions := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		var rules []ResponseRule
		for i := range rapid.IntRange(1, 8).Draw(t, "rules") {
			name := fmt.Sprint("r", i)
			r := ResponseRule{Name: name, Edits: []Edit{AddHeader{"X-Out", name}}, Disabled: rapid.IntRange(0, 9).Draw(t, "disabled") == 0,
				DryRun: rapid.IntRange(0, 9).Draw(t, "dryRun") == 0}
			if rapid.Bool().Draw(t, "request") {
				r.Match.Request = drawMatch(t)
			}
			if rapid.Bool().Draw(t, "status") {
				r.Match.Status = &StatusMatch{Op: genMembership.Draw(t, "membership"), Codes: []int{200},
					Ranges: rapid.SliceOfN(rapid.SampledFrom([]Range[int]{{300, 302}, {404, 599}}), 0, 2).Draw(t, "ranges")}
			}
			if rapid.Bool().Draw(t, "header") {
				op, values := drawValueOp(t)
				r.Match.Headers = []HeaderMatch{{Name: "x-one", Op: op, Values: values}}
			}
			if rapid.IntRange(0, 3).Draw(t, "location") == 0 {
				op, values := drawValueOp(t)
				r.Match.Location = &TextMatch{Op: op, Values: values}
			}
			rules = append(rules, r)
		}
		p, err := NewHTTPResponse(rules, twinEnv)
		if err != nil {
			t.Fatal(err)
		}
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		for range requestsPerPolicy() {
			tx := randomTx(random)
			response([]int{200, 302, 404, 500}[random.IntN(4)])(tx)
			for range random.IntN(3) {
				tx.answer.Add("X-One", values[random.IntN(len(values))])
			}
			if random.IntN(2) == 0 {
				tx.answer.Set("Location", []string{"/a", "/admin/x", "http://b/"}[random.IntN(3)])
			}
			var want outcomeTwin
			for _, r := range rules {
				_, selected := slowMatch(r.Match.Request, twinEnv, tx)
				if m := r.Match.Status; m != nil {
					in := slices.Contains(m.Codes, tx.answered)
					for _, s := range m.Ranges {
						in = in || s.Begin <= tx.answered && tx.answered <= s.End
					}
					selected = selected && in == (m.Op == IsIn)
				}
				for _, m := range r.Match.Headers {
					selected = selected && slowValues(m.Op, false, m.Values, tx.answer["X-One"]...)
				}
				if m := r.Match.Location; m != nil {
					selected = selected && slowValues(m.Op, false, m.Values, tx.answer["Location"]...)
				}
				switch {
				case !selected || r.Disabled:
				case r.DryRun:
					want.Monitored = append(want.Monitored, r.Name)
				default:
					want.Applied = append(want.Applied, r.Name)
					want.Header = append(want.Header, r.Name)
				}
			}
			v := p.Evaluate(tx)
			got := outcomeTwin{Applied: v.Applied, Monitored: monitored(v), Header: tx.answer["X-Out"]}
			if !reflect.DeepEqual(got, want) || v.Err != nil {
				t.Fatalf("%d %v: %+v %s", tx.answered, tx.answer, v, cmp.Diff(want, got))
			}
			decisions++
			if len(v.Applied) > 0 {
				changes++
			}
		}
	})
	if !t.Failed() && changes*5 < decisions {
		t.Errorf("%d of %d responses were changed: the test says little", changes, decisions)
	}
}
