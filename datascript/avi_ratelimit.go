package datascript

import (
	"cmp"
	"net/http"

	lua "github.com/yuin/gopher-lua"

	"github.com/limpetlb/limpet/internal/lua51"
	"github.com/limpetlb/limpet/internal/luastr"
)

// The functions of avi.vs that limit rates.
var rateEntries = []entry{
	{name: "ratelimit.exceed", call: vsRatelimitExceed, events: rateEvents},
	{name: "rate.limit.exceed", call: vsRatelimitExceed, events: rateEvents}, // as some pages of the reference spell it
	{name: "rate_limit", call: vsRateLimit, events: rateEvents},
}

var rateEvents = notFailed &^ events(LBDone)

// ratelimit.exceed(limiter, key [, consume]) takes consume tokens (1) from the
// bucket of a key and returns false. If there are not enough, it takes none and
// returns true. It fails if there is no limiter of that name. Tokens stay taken
// if the script fails later.
func vsRatelimitExceed(c call) int {
	name, key := c.name(1), c.Str(2)
	consume := c.OptNum(3, 1)
	if !(consume >= 0) {
		c.ArgError(3, "%s is not a number of tokens", luastr.FormatNumber(consume))
	}
	l := c.engine.env.RateLimiters[name]
	if l == nil {
		c.Fail("rate limiter %q not found", name)
	}
	return c.RetBool(l.Exceed(key, lua51.ClampInt(consume)))
}

// rate_limit(avi.RL_CUSTOM_STRING, string [, defer]) counts a request for the
// string against the rate profile of the virtual service. It returns whether
// the rate is exceeded, and the action for that, a constant avi.RL_ACTION_*;
// avi.RL_ACTION_NONE if it is not exceeded.
//
// Unless defer is true, the action is taken at once: the call does not return,
// the script ends without an error, and its earlier decisions apply, except
// replies. avi.RL_ACTION_NONE is only logged.
func vsRateLimit(c call) int {
	profile := c.engine.env.RateProfile
	if profile == nil {
		c.Fail("%s: the virtual service has no rate profile", c.Sym.Name)
		return 0
	}
	if kind, _ := lua51.Text(c.Arg(1)); kind != "RL_CUSTOM_STRING" {
		c.ArgError(1, "avi.RL_CUSTOM_STRING expected")
	}
	key := c.Str(2)
	action := RateNone
	exceeded := profile.Limiter.Exceed(key, 1)
	if exceeded {
		action = profile.Action
		if !lua.LVAsBool(c.Arg(3)) {
			c.enforce(profile, key)
		}
	}
	c.L.Push(lua.LBool(exceeded))
	c.L.Push(lua.LString(action.String()))
	return 2
}

// enforce takes the action of a profile and ends the script.
func (c call) enforce(p *RateProfile, key string) {
	if p.Action == RateNone {
		c.log(c.Position() + "rate limit exceeded: " + key)
		return
	}
	c.reply, c.closing = nil, open
	switch p.Action {
	case RateClose:
		c.closing = closeFIN
	case RateReset:
		c.closing = closeRST
	case RateReply:
		contentType := cmp.Or(p.ContentType, "text/plain")
		c.answer(&reply{cmp.Or(p.Status, http.StatusTooManyRequests), http.Header{"Content-Type": {contentType}}, []byte(p.Body)})
	case RateRedirect:
		c.answer(&reply{cmp.Or(p.Status, http.StatusFound), http.Header{"Location": {escapeLocation(p.Location)}}, nil})
	}
	c.End()
}
