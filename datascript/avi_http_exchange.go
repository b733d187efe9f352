package datascript

import (
	"strconv"
	"time"

	lua "github.com/yuin/gopher-lua"

	"github.com/limpetlb/limpet/internal/luastr"
)

// get_request_id() returns a string that names the transaction: it is unique,
// and the same in all events.
func httpGetRequestID(c call) int { return c.RetString(ability[Identifier](c).RequestID()) }

// get_reqvar(name) returns a variable of the transaction, or nil: the field of
// that name in avi.vs.reqvar.
func httpGetReqvar(c call) int {
	return c.Ret(c.Variables().Shared(c.L).RawGet(c.reqvarName()))
}

// set_reqvar(name, value) sets a variable of the transaction, which all events
// and scripts share. The value may be of any type.
func httpSetReqvar(c call) int {
	name := c.reqvarName()
	c.Variables().Shared(c.L).RawSet(name, c.Any(2))
	return 0
}

func (c call) reqvarName() lua.LValue {
	name := c.Any(1)
	if name == lua.LNil {
		c.TypeError(1, "string")
	}
	c.CheckKey(name)
	return name
}

// maxServerTimeout is the longest wait that a script may ask for.
const maxServerTimeout = 24 * time.Hour

// set_server_timeout(ms) sets how long to wait for the server's response to
// this request: milliseconds, from 1 to those in a day.
func httpSetServerTimeout(c call) int {
	timer := ability[ForwardController](c)
	ms := c.Num(1)
	if !(ms >= 1 && ms <= float64(maxServerTimeout/time.Millisecond)) {
		c.ArgError(1, "%s ms is not between 1 and %d", luastr.FormatNumber(ms), maxServerTimeout/time.Millisecond)
	}
	d := time.Duration(int64(ms)) * time.Millisecond
	c.decide(func() { timer.SetServerTimeout(d) })
	return 0
}

// internal_status() returns why there is no response, as a status of three
// digits in a string: "502" if the server could not be reached or gave no
// valid response, "503" if there was no server, "504" if it took too long.
func httpInternalStatus(c call) int {
	return c.RetString(strconv.Itoa(ability[OutcomeReporter](c).FailureStatus()))
}

// disable() ends the processing of HTTP on the connection: after the response,
// bytes pass unchanged in both directions. It fails where that is impossible,
// as in HTTP/2.
func httpDisable(c call) int {
	tunneler := ability[ForwardController](c)
	if !tunneler.CanTunnel() {
		c.Fail("%s: not possible on this connection", c.Sym.Name)
	}
	c.decide(tunneler.Tunnel)
	return 0
}
