package datascripttest

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/limpetlb/limpet/datascript"
)

// A Token is a token that avi.jwt.verify knows. It need not look like one: its
// text is all that is compared.
type Token struct {
	Set   string // name of the key set
	Token string // what scripts pass
	// Claims is a JSON object, for a token that is accepted.
	Claims string
	// Reason is why the token is refused, such as "expired"; empty if it is
	// not.
	Reason string
}

// Tokens are tokens and, with them, the key sets that scripts may name. Any
// other token is refused, because of its "signature". Whether a token has the
// audience and the issuer that the script demands is seen in its claims.
// Algorithms, times and leeway are ignored: for a token that is not valid any
// more, say so in its Reason.
type Tokens []Token

// VerifyToken implements datascript.TokenVerifier.
func (ts Tokens) VerifyToken(c datascript.TokenCheck) (claims, reason string, signatures int, err error) {
	err = fmt.Errorf("key set %q not found", c.KeySet)
	for _, t := range ts {
		if t.Set != c.KeySet {
			continue
		}
		err = nil
		if t.Token != c.Token {
			continue
		}
		if reason := t.refuse(c.Issuer, c.Audience); reason != "" {
			return "", reason, 1, nil
		}
		return t.Claims, "", 1, nil
	}
	if err != nil {
		return "", "", 0, err
	}
	return "", "signature", 1, nil
}

// refuse returns why the token is refused; empty if it is not.
func (t Token) refuse(issuer, audience string) string {
	var c struct {
		Issuer   string          `json:"iss"`
		Audience json.RawMessage `json:"aud"`
	}
	switch {
	case t.Reason != "":
		return t.Reason
	case json.Unmarshal([]byte(t.Claims), &c) != nil:
		return "malformed"
	case audience != "" && !slices.Contains(list(c.Audience), audience):
		return "audience"
	case issuer != "" && c.Issuer != issuer:
		return "issuer"
	}
	return ""
}

// list reads a string or a list of strings.
func list(text json.RawMessage) (all []string) {
	var one string
	if json.Unmarshal(text, &one) == nil {
		return []string{one}
	}
	_ = json.Unmarshal(text, &all) // anything else has no items
	return all
}
