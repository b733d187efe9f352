package limpet

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"
)

// Explain describes, as text for people, what the policies would do with a
// request: who and where the client is, which rules were tried, which matched
// and why, and which scripts would see the request. It counts, limits, sends
// and changes nothing, and runs no script, so the rules see a request that no
// script has changed. r is a request as a server gets it: RemoteAddr, Host,
// URL, Header and TLS matter. Explain is safe for concurrent use.
func (vs *VirtualService) Explain(r *http.Request) string {
	s := vs.current.Load()
	tx := newTransaction(vs, s, nowhere{}, r)
	var b strings.Builder
	fmt.Fprintf(&b, "client %s", addrText(tx.client))
	if tx.source != tx.client {
		fmt.Fprintf(&b, " by way of %s", addrText(tx.source))
	}
	b.WriteByte('\n')
	if location := s.location(tx.client.Addr()); location != "" {
		fmt.Fprintf(&b, "location %s\n", location)
	}
	part := func(name, text string) {
		b.WriteString(name + ":\n")
		for line := range strings.Lines(text) {
			b.WriteString("    " + line)
		}
	}
	if len(s.NetworkSecurity) > 0 {
		part("network security", s.network.Explain(tx.source, tx.local))
	}
	if err := cmp.Or(judgeReceived(r), judgeHead(r)); err != nil {
		fmt.Fprintf(&b, "refused with status 400: %v\n", err)
		return b.String()
	}
	tx.fillIn()
	if len(s.HTTPSecurity) > 0 {
		part("HTTP security", s.security.Explain(tx))
	}
	if len(s.HTTPRequest) > 0 {
		part("HTTP request", s.request.Explain(tx))
	}
	if len(s.Scripts) > 0 {
		names := make([]string, len(s.Scripts))
		for i, script := range s.Scripts {
			names[i] = script.Name()
		}
		fmt.Fprintf(&b, "scripts, which were not run: %s\n", strings.Join(names, ", "))
	}
	return b.String()
}

// nowhere takes the response of a request that is only explained.
type nowhere struct{}

func (nowhere) Header() http.Header         { return nil }
func (nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (nowhere) WriteHeader(int)             {}
