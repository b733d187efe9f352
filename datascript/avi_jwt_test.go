package datascript

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// show is a function of Lua that spells a value.
const show = `
local function show(v)
   if type(v) ~= "table" then return type(v) == "string" and '"' .. v .. '"' or tostring(v) end
   local keys = {}
   for k in pairs(v) do keys[#keys + 1] = tostring(k) end
   table.sort(keys)
   local out = ""
   for _, k in ipairs(keys) do
      local field = v[k]
      if field == nil then field = v[tonumber(k)] end
      out = out .. k .. "=" .. show(field) .. " "
   end
   return "{" .. out .. "}"
end
`

func unsigned(header, payload string) string {
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(header)) + "." + encode([]byte(payload)) + ".x"
}

func TestJWTClaims(t *testing.T) {
	e := newEngine(t, Env{})
	deep := func(n int) string { return `{"a":` + strings.Repeat("[", n) + strings.Repeat("]", n) + `}` }
	for name, c := range map[string]struct{ token, want string }{
		"text":             {unsigned(`{}`, `{"sub":"ann"}`), `{sub="ann" } nil`},
		"nothing":          {unsigned(`{}`, `{}`), `{} nil`},
		"header unread":    {unsigned(`x`, `{}`), `{} nil`},
		"all types":        {unsigned(`{}`, ` {"a":1.5,"b":true,"c":[1,"x",[]],"d":{"e":false}} `), `{a=1.5 b=true c={1=1 2="x" 3={} } d={e=false } } nil`},
		"null":             {unsigned(`{}`, `{"a":null,"b":[null,1]}`), `{b={2=1 } } nil`},
		"exact integers":   {unsigned(`{}`, `{"a":9007199254740992,"b":-0,"c":1152921504606846976}`), `{a=9.007199254741e+15 b=-0 c=1.1529215046068e+18 } nil`},
		"inexact integers": {unsigned(`{}`, `{"a":9007199254740993,"b":-12345678901234567890}`), `{a="9007199254740993" b="-12345678901234567890" } nil`},
		"name twice":       {unsigned(`{}`, `{"a":1,"a":2}`), `{a=2 } nil`},
		"binary":           {unsigned(`{}`, `{"a":"\u0000\u00e9"}`), `{a="\0é" } nil`},
		"deep":             {unsigned(`{}`, deep(63)), `{a=` + strings.Repeat("{1=", 62) + "{}" + strings.Repeat(" }", 62) + ` } nil`},
		"too deep":         {unsigned(`{}`, deep(65)), `nil "malformed"`},
		"many values":      {unsigned(`{}`, `{"a":[`+strings.Repeat("1,", 2500)+`1]}`), "*"},
		"empty":            {"", `nil "malformed"`},
		"two parts":        {"e30.e30", `nil "malformed"`},
		"four parts":       {"e30.e30.x.x", `nil "malformed"`},
		"no header":        {".e30.x", `nil "malformed"`},
		"no claims":        {"e30..x", `nil "malformed"`},
		"line break":       {"e30.e3\n0.x", `nil "malformed"`},
		"padding":          {"e30.e30=.x", `nil "malformed"`},
		"stray bits":       {"e30.e31.x", `nil "malformed"`},
		"not UTF-8":        {unsigned(`{}`, "{\"a\":\"\xff\"}"), `nil "malformed"`},
		"list":             {unsigned(`{}`, `[1]`), `nil "malformed"`},
		"null alone":       {unsigned(`{}`, `null`), `nil "malformed"`},
		"cut":              {unsigned(`{}`, `{"a":`), `nil "malformed"`},
		"two objects":      {unsigned(`{}`, `{}{}`), `nil "malformed"`},
		"no comma":         {unsigned(`{}`, `{"a":1 "b":2}`), `nil "malformed"`},
		"number too large": {unsigned(`{}`, `{"a":1e999}`), `nil "malformed"`},
		"too long":         {"e30." + strings.Repeat("A", 8<<10) + ".x", `nil "too long"`},
		"huge":             {strings.Repeat("A", 1<<19), `nil "too long"`},
	} {
		t.Run(name, func(t *testing.T) {
			x := newExchange()
			x.original.Header.Set("Token", c.token)
			source := show + `local t, why = avi.jwt.claims(avi.http.get_header("Token")) avi.vs.log(show(t) .. " " .. show(why))`
			err := runAt(t, e, HTTPReq, x, source)
			if got := strings.Join(x.logged(), "\n"); err != nil || got != c.want && c.want != "*" {
				t.Errorf("error %v\ngot  %s\nwant %s", err, got, c.want)
			}
		})
	}
}

func TestJWTVerify(t *testing.T) {
	e := newEngine(t, Env{Tokens: fakeTokens{}})
	for name, c := range map[string]struct{ arguments, want, fault string }{
		"good":                {`"good", "k"`, `{asked="[]   0s" sub="ann" } nil`, ""},
		"nil options":         {`"good", "k", nil`, `{asked="[]   0s" sub="ann" } nil`, ""},
		"all options":         {`"good", "k", {aud = "a", iss = "i", algorithms = {"RS256", "ES256"}, leeway = 1.5}`, `{asked="[RS256 ES256] i a 1.5s" sub="ann" } nil`, ""},
		"one algorithm":       {`"good", "k", {algorithms = "RS256", leeway = "60"}`, `{asked="[RS256]   1m0s" sub="ann" } nil`, ""},
		"refused":             {`"bad", "k"`, `nil "signature"`, ""},
		"claims are no JSON":  {`"{", "k"`, `nil "malformed"`, ""},
		"unknown set":         {`"good", "x"`, "", `key set "x" not found`},
		"nil token":           {`nil, "k"`, "", "bad argument #1 to 'verify' (string expected, got nil)"},
		"no set":              {`"good"`, "", "bad argument #2 to 'verify' (string expected, got no value)"},
		"long name":           {`"good", ("k"):rep(5000)`, "", "bad argument #2 to 'verify' (name of 5000 bytes)"},
		"options are a text":  {`"good", "k", "aud"`, "", "bad argument #3 to 'verify' (table expected, got string)"},
		"unknown option":      {`"good", "k", {audience = "a"}`, "", `bad argument #3 to 'verify' (no option "audience")`},
		"option by number":    {`"good", "k", {"a"}`, "", `bad argument #3 to 'verify' (no option "1")`},
		"long option":         {`"good", "k", {[("x"):rep(2^19)] = 1}`, "", `bad argument #3 to 'verify' (no option "` + strings.Repeat("x", 61) + `...")`},
		"audience is nil":     {`"good", "k", {aud = avi.http.get_header("none")}`, `{asked="[]   0s" sub="ann" } nil`, ""},
		"audience is empty":   {`"good", "k", {aud = ""}`, "", "aud is a string, which is not empty"},
		"audience is a table": {`"good", "k", {aud = {"a"}}`, "", "aud is a string, which is not empty"},
		"issuer is a number":  {`"good", "k", {iss = 1}`, "", "iss is a string, which is not empty"},
		"no algorithms":       {`"good", "k", {algorithms = {}}`, "", "algorithms has 0 items, want 1 to 32"},
		"many algorithms":     {`"good", "k", {algorithms = {unpack({}, 1, 1), ("x"):rep(1), unpack((function() local t = {} for i = 1, 40 do t[i] = "x" end return t end)())}}`, "", "algorithms has 42 items, want 1 to 32"},
		"algorithm is 1":      {`"good", "k", {algorithms = {1}}`, "", "algorithms is a string, which is not empty"},
		"long leeway":         {`"good", "k", {leeway = 61}`, "", "leeway is a number of seconds, 60 at most"},
		"negative leeway":     {`"good", "k", {leeway = -1}`, "", "leeway is a number of seconds, 60 at most"},
		"leeway is NaN":       {`"good", "k", {leeway = 0/0}`, "", "leeway is a number of seconds, 60 at most"},
	} {
		t.Run(name, func(t *testing.T) {
			x := newExchange()
			err := runAt(t, e, HTTPReq, x, show+`local t, why = avi.jwt.verify(`+c.arguments+`) avi.vs.log(show(t) .. " " .. show(why))`)
			if c.fault != "" {
				if err == nil || !strings.Contains(err.Error(), c.fault) {
					t.Errorf("error %v, want %s", err, c.fault)
				}
				return
			}
			if got := strings.Join(x.logged(), "\n"); err != nil || got != c.want {
				t.Errorf("error %v\ngot  %s\nwant %s", err, got, c.want)
			}
		})
	}
}

// costlyTokens takes as many verifications as it says.
type costlyTokens struct {
	signatures int
	calls      *int
}

func (f costlyTokens) VerifyToken(TokenCheck) (claims, reason string, signatures int, err error) {
	*f.calls++
	return "", "signature", f.signatures, nil
}

// TestJWTBudget: a script that verifies in a loop ends, and sooner the more a
// verification costs.
func TestJWTBudget(t *testing.T) {
	for _, c := range []struct{ signatures, least, most int }{{0, 2000, 5000}, {1, 40, 50}, {4, 10, 13}, {-1, 2000, 5000}, {1 << 60, 1, 1}} {
		calls := 0
		e := newEngine(t, Env{Tokens: costlyTokens{signatures: c.signatures, calls: &calls}})
		_, err := runRequest(t, e, `while true do avi.jwt.verify("t", "k") end`)
		var be *BudgetError
		if !errors.As(err, &be) || be.Budget != "instructions" || calls < c.least || calls > c.most {
			t.Errorf("%d signatures a call: %d calls, %v", c.signatures, calls, err)
		}
	}
	for _, source := range []string{
		`local t = ("A"):rep(8191) while true do avi.jwt.claims(t) end`,
		fmt.Sprintf(`local t = "e30.%s.x" local all = {} for i = 1, 1e9 do all[i] = avi.jwt.claims(t) end`,
			base64.RawURLEncoding.EncodeToString([]byte(`{"a":[`+strings.Repeat("{},", 1500)+`{}]}`))),
	} {
		_, err := runRequest(t, newEngine(t, Env{}), source)
		if _, ok := errors.AsType[*BudgetError](err); !ok {
			t.Errorf("%.60s: %v", source, err)
		}
	}
}
