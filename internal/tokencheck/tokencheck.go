// Package tokencheck says what a JSON Web Token must be. Scripts and
// authenticators ask in these words, and key sets answer, without knowing one
// another: each of them has [Check] under a name of its own.
package tokencheck

import (
	"fmt"
	"time"
)

// MaxLeeway bounds the leeway of a check.
const MaxLeeway = time.Minute

// A Check is a token and what is demanded of it. A demand that is zero accepts
// any token.
type Check struct {
	// Token is the token, as the client has sent it.
	Token string
	// KeySet is the name of the key set that must have signed it.
	KeySet string
	// Algorithms are the only accepted ones. None means all that the keys are
	// for.
	Algorithms []string
	// Issuer must be the claim iss.
	Issuer string
	// Audience must be the claim aud, or one of its items.
	Audience string
	// Leeway is how far this clock may differ from the issuer's, which has
	// written the claims exp, nbf and iat: between zero, which means not at
	// all, and a minute.
	Leeway time.Duration
}

// Format writes the demands, whatever the verb, and never the token.
func (c Check) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "{KeySet:%q Algorithms:%q Issuer:%q Audience:%q Leeway:%v}", c.KeySet, c.Algorithms, c.Issuer, c.Audience, c.Leeway)
}
