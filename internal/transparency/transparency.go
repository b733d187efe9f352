package transparency

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"
)

// A Target is what is tested: a middleware or a proxy. Exactly one of the
// fields Middleware and Proxy is set.
type Target struct {
	// Middleware returns a handler in front of next. It is called once for each
	// case.
	Middleware func(t testing.TB, next http.Handler) http.Handler
	// Proxy returns a handler that forwards to the server at origin, such as
	// "http://127.0.0.1:4321". It is called once for each case; idle
	// connections to the server are closed by t.Cleanup at the latest.
	Proxy func(t testing.TB, origin *url.URL) http.Handler

	// HeaderTimeout is after how long the proxy gives up a server that does not
	// answer. 0 leaves out the cases that need it; they wait as long as that,
	// so it should be well below a second.
	HeaderTimeout time.Duration
	// Hasty returns the proxy with this time-out, for the cases that need it.
	// Nil means Proxy, which on a busy machine then gives up servers that are
	// well.
	Hasty func(t testing.TB, origin *url.URL) http.Handler

	// Only names the cases that are run, for targets that differ from another
	// one in little. Nil means all.
	Only []string
	// Known names cases that the target fails, such as "early bytes" or, on one
	// protocol only, "early bytes/HTTP1", with the reason. They are run and
	// must fail. Nil means none.
	Known map[string]string
}

// Run runs the cases that are for a target of this kind, each in a subtest
// "case/protocol". In a short run each case has half of its protocols.
func Run(t *testing.T, target Target) {
	t.Helper()
	if (target.Middleware == nil) == (target.Proxy == nil) {
		t.Fatal("a target is either a middleware or a proxy")
	}
	known, only := maps.Clone(target.Known), slices.Clone(target.Only)
	for i, c := range cases {
		if !target.runs(c) || target.Only != nil && !slices.Contains(target.Only, c.name) {
			continue
		}
		only = slices.DeleteFunc(only, func(name string) bool { return name == c.name })
		for j, proto := range c.protocols {
			target := target
			if c.kind == waiting && target.Hasty != nil {
				target.Proxy = target.Hasty
			}
			name := c.name + "/" + string(proto)
			reason, fails := target.known(c.name, name)
			delete(known, c.name)
			delete(known, name)
			if testing.Short() && len(c.protocols) > 1 && (i+j)%2 > 0 {
				continue
			}
			t.Run(name, func(t *testing.T) {
				e := full()
				if testing.Short() {
					e = short
				}
				if fails {
					e = brief
				}
				for _, fault := range verdict(c.failures(t, target, proto, e), reason, fails) {
					t.Error(fault)
				}
			})
		}
	}
	for _, name := range slices.AppendSeq(only, maps.Keys(known)) {
		t.Errorf("there is no case %q for this target", name)
	}
}

// verdict is what is wrong with a case that ended with these failures, and may
// be known to fail.
func verdict(failures []string, reason string, known bool) []string {
	switch {
	case !known:
		return failures
	case len(failures) == 0:
		return []string{"the case passes, though it is known to fail: " + reason}
	}
	return nil
}

// known returns why a case fails of which any of the names is known.
func (t *Target) known(names ...string) (reason string, ok bool) {
	for _, name := range names {
		if reason, ok = t.Known[name]; ok {
			break
		}
	}
	return reason, ok
}

// A testCase is run once for each of its protocols.
type testCase struct {
	name      string
	kind      kind
	protocols []protocol
	run       func(*probe)
}

// kind says which targets a case is for.
type kind uint8

const (
	either     kind = iota
	middleware      // the handler itself is behind the target
	proxy           // a server is behind the target
	waiting         // a proxy that gives up servers that do not answer
)

func (t *Target) runs(c testCase) bool {
	switch c.kind {
	case middleware:
		return t.Middleware != nil
	case proxy:
		return t.Proxy != nil
	case waiting:
		return t.Proxy != nil && t.HeaderTimeout > 0
	}
	return true
}

// A protocol is what the client speaks.
type protocol string

const (
	http1    protocol = "HTTP1"
	http1TLS protocol = "HTTP1-TLS"
	http2    protocol = "HTTP2"
	h2c      protocol = "h2c"
)

func (p protocol) tls() bool { return p == http1TLS || p == http2 }

func (p protocol) major() int {
	if p == http2 || p == h2c {
		return 2
	}
	return 1
}

var (
	only1    = []protocol{http1}
	plainTLS = []protocol{http1, http1TLS}
	both     = []protocol{http1, http2}
	every    = []protocol{http1, http1TLS, http2, h2c}
)

// cases are all cases. Each group is in the file named after it.
var cases = slices.Concat(writerCases, streamCases, headerCases, informationalCases, upgradeCases, endingCases, faultCases)
