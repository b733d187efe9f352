package policy

import "testing"

// encryptedTx is a transaction that knows what the client spoke to a proxy.
type encryptedTx struct {
	*fakeTx
	encrypted bool
}

func (t encryptedTx) Encrypted() bool { return t.encrypted }

// What the client spoke decides, not the connection that the request came on:
// behind a proxy that terminates TLS a redirect to https does not loop.
func TestEncryptionReporter(t *testing.T) {
	p := mustHTTPSecurity(t, Env{},
		SecurityRule{Name: "to https", Action: RedirectToHTTPS{}},
		SecurityRule{Name: "https", Match: Match{Protocol: &ProtocolMatch{Protocol: HTTPS}}, Action: Respond{Status: 204}})
	for _, c := range []struct {
		name string
		tx   Transaction
		want string
	}{
		{"nobody knows better, without TLS", newTx("GET", "/"), "to https"},
		{"nobody knows better, TLS", newTx("GET", "/", overTLS), "https"},
		{"TLS to the proxy", encryptedTx{newTx("GET", "/"), true}, "https"},
		{"TLS from the proxy only", encryptedTx{newTx("GET", "/", overTLS), false}, "to https"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if v := p.Evaluate(c.tx); v.Rule != c.want {
				t.Errorf("%q decided, want %q", v.Rule, c.want)
			}
		})
	}
}
