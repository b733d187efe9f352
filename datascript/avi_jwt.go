package datascript

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	lua "github.com/yuin/gopher-lua"

	"github.com/limpetlb/limpet/internal/lua51"
	"github.com/limpetlb/limpet/internal/tokencheck"
)

// The module avi.jwt, an extension of this implementation: JSON Web Tokens
// (RFC 7519).
var jwtEntries = []entry{
	{name: "verify", call: jwtVerify},
	{name: "claims", call: jwtClaims},
}

const (
	// maxToken is the length limit of a token, in bytes.
	maxToken = 8 << 10
	// maxAlgorithms is how many algorithms a script may name.
	maxAlgorithms = 32

	// The charges for a call, and for each signature that is verified.
	tokenInstructions     = 200
	signatureInstructions = 20_000
)

// verify(token, keys [, options]) verifies a token with the keys of a set and
// returns its claims as a table; or nil and the reason why the token is
// refused: "malformed", "algorithm", "unknown key", "signature", "expired",
// "not yet valid", "audience", "issuer" or "too long". Options are a table: the
// token must have aud as its audience and iss as its issuer, algorithms (a
// string or an array) are the only accepted ones, and the clocks may differ by
// leeway seconds, 60 at most. It fails if there is no set of that name.
func jwtVerify(c call) int {
	check := TokenCheck{Token: c.Str(1), KeySet: c.name(2)}
	if c.Arg(3) != lua.LNil {
		c.tokenOptions(&check, c.Table(3))
	}
	verifier := c.engine.env.Tokens
	if verifier == nil {
		c.Fail("%s: the virtual service has no key sets", c.Sym.Name)
	}
	claims, reason, signatures, err := verifier.VerifyToken(check)
	c.Work(tokenInstructions + min(max(signatures, 0), 100)*signatureInstructions)
	switch {
	case err != nil:
		c.FailWith(err)
	case reason != "":
		return c.refused(reason)
	}
	return c.retClaims([]byte(claims))
}

// tokenOptions reads the third argument of verify.
func (c call) tokenOptions(check *TokenCheck, t *lua.LTable) {
	t.ForEach(func(k, v lua.LValue) {
		c.Spend(1)
		option, _ := k.(lua.LString)
		switch option {
		case "aud":
			check.Audience = c.optionText("aud", v)
		case "iss":
			check.Issuer = c.optionText("iss", v)
		case "leeway":
			seconds, ok := lua51.Number(v)
			if !ok || !(seconds >= 0 && seconds <= tokencheck.MaxLeeway.Seconds()) {
				c.ArgError(3, "leeway is a number of seconds, 60 at most")
			}
			check.Leeway = time.Duration(math.Round(seconds*1000)) * time.Millisecond
		case "algorithms":
			list, ok := v.(*lua.LTable)
			if !ok {
				check.Algorithms = []string{c.optionText("algorithms", v)}
				return
			}
			n := list.Len()
			if n == 0 || n > maxAlgorithms {
				c.ArgError(3, "algorithms has %d items, want 1 to %d", n, maxAlgorithms)
			}
			for i := 1; i <= n; i++ {
				c.Spend(1)
				check.Algorithms = append(check.Algorithms, c.optionText("algorithms", list.RawGetInt(i)))
			}
		default:
			name, _ := lua51.Text(k)
			c.ArgError(3, "no option %s", strconv.Quote(lua51.Cut(name, maxShown)))
		}
	})
}

// maxShown is how much of an unknown option an error shows.
const maxShown = 64

// optionText returns the string of an option. It refuses an empty one, which
// would accept any token.
func (c call) optionText(option string, v lua.LValue) string {
	s, ok := v.(lua.LString)
	if !ok || s == "" || len(s) > maxName {
		c.ArgError(3, "%s is a string, which is not empty", option)
	}
	return string(s)
}

// claims(token) returns the claims of a token without verifying it: they may be
// forged. Use it for logs and for the choice of a server, never for rights. It
// returns nil and "malformed" or "too long" if it cannot read the token.
func jwtClaims(c call) int {
	token := c.Str(1)
	c.Work(tokenInstructions)
	if len(token) > maxToken {
		return c.refused("too long")
	}
	header, rest, _ := strings.Cut(token, ".")
	payload, signature, ok := strings.Cut(rest, ".")
	if !ok || header == "" || strings.ContainsAny(token, "\r\n") || strings.Contains(signature, ".") {
		return c.refused("malformed")
	}
	claims, err := base64.RawURLEncoding.Strict().DecodeString(payload)
	if err != nil {
		return c.refused("malformed")
	}
	return c.retClaims(claims)
}

func (c call) refused(reason string) int {
	c.L.Push(lua.LNil)
	return 1 + c.RetString(reason)
}

// retClaims returns a JSON object as a table.
func (c call) retClaims(text []byte) int {
	t, ok := c.jsonObject(text)
	if !ok {
		return c.refused("malformed")
	}
	return c.Ret(t)
}

// jsonObject makes a table from a JSON object. It leaves out fields that are
// null. An integer that a Lua number cannot represent exactly becomes a string
// of its digits. If a name occurs twice, the last one wins.
func (c call) jsonObject(text []byte) (*lua.LTable, bool) {
	c.Work(len(text))
	if !utf8.Valid(text) || !json.Valid(text) {
		return nil, false
	}
	r := jsonReader{c: c, text: string(text)}
	v, ok := r.value(0)
	t, isTable := v.(*lua.LTable)
	return t, ok && isTable && strings.TrimLeft(r.text, " \t\r\n")[0] == '{'
}

// Bounds of a JSON text.
const (
	maxJSONDepth  = 64
	maxJSONValues = 10_000
)

// A jsonReader makes Lua values from a text that package json has found to be
// valid.
type jsonReader struct {
	c      call
	text   string
	at     int
	values int
}

// next skips space and returns the next byte without reading it.
func (r *jsonReader) next() byte {
	for {
		switch b := r.text[r.at]; b {
		case ' ', '\t', '\r', '\n', ',', ':':
			r.at++
		default:
			return b
		}
	}
}

// value reads a value. ok is false if a bound is exceeded.
func (r *jsonReader) value(depth int) (v lua.LValue, ok bool) {
	r.c.Spend(1)
	if r.values++; r.values > maxJSONValues || depth > maxJSONDepth {
		return nil, false
	}
	switch b := r.next(); b {
	case '{', '[':
		return r.table(b, depth)
	case '"':
		return lua.LString(r.string()), true
	case 't':
		r.at += len("true")
		return lua.LTrue, true
	case 'f':
		r.at += len("false")
		return lua.LFalse, true
	case 'n':
		r.at += len("null")
		return lua.LNil, true
	}
	begin := r.at
	for r.at < len(r.text) && strings.IndexByte("+-.0123456789Ee", r.text[r.at]) >= 0 {
		r.at++
	}
	return jsonNumber(r.text[begin:r.at])
}

func (r *jsonReader) table(open byte, depth int) (lua.LValue, bool) {
	r.at++
	// Without a size, a table makes space for 32 fields with the first.
	items, fields := 4, 0
	if open == '{' {
		items, fields = 0, 4
		if depth == 0 {
			fields = min(strings.Count(r.text, ":"), 32)
		}
	}
	t := r.c.L.CreateTable(items, fields)
	r.c.Hold(tableBytes)
	for i := 1; ; i++ {
		if b := r.next(); b == '}' || b == ']' {
			r.at++
			return t, true
		}
		name := ""
		if open == '{' {
			name = r.string()
		}
		v, ok := r.value(depth + 1)
		if !ok {
			return nil, false
		}
		if open == '{' {
			t.RawSetString(name, v)
		} else {
			t.RawSetInt(i, v)
		}
	}
}

// tableBytes is about the size of a table with a few fields.
const tableBytes = 500

// string reads a string, which begins here.
func (r *jsonReader) string() (s string) {
	begin := r.at
	plain := true
	for r.at++; r.text[r.at] != '"'; r.at++ {
		if r.text[r.at] == '\\' {
			plain = false
			r.at++
		}
	}
	r.at++
	if quoted := r.text[begin:r.at]; plain {
		s = quoted[1 : len(quoted)-1]
	} else {
		_ = json.Unmarshal([]byte(quoted), &s) // it is valid
	}
	r.c.Allow(len(s))
	return s
}

func jsonNumber(text string) (lua.LValue, bool) {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return nil, false // it is too large
	}
	if !strings.ContainsAny(text, ".eE") && strconv.FormatFloat(f, 'f', 0, 64) != text {
		return lua.LString(text), true
	}
	return lua.LNumber(f), true
}
