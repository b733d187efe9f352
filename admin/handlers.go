package admin

import (
	_ "embed"
	"net/http"
	"strconv"
)

// openAPI describes the routes.
//
//go:embed openapi.json
var openAPI []byte

func serveOpenAPI(*call) (any, error) { return openAPI, nil }

// maxProfile is how many seconds a profile may take.
const maxProfile = 60

func serveMetrics(c *call) (any, error) { return c.pass(c.config.Metrics) }

func serveDebug(c *call) (any, error) {
	if n, err := strconv.ParseFloat(c.r.FormValue("seconds"), 64); c.r.FormValue("seconds") != "" && !(err == nil && n >= 0 && n <= maxProfile) {
		return nil, badRequest("seconds", "not between 0 and %d", maxProfile)
	}
	select {
	case c.debugs <- struct{}{}:
		defer func() { <-c.debugs }()
	default:
		return nil, retry(fail(http.StatusTooManyRequests, codeTooMany, "%d profiles are being made", maxDebugs), unavailableRetry)
	}
	v := c.change
	v.Who, v.Remote, v.Action, v.Target, v.Result, v.RequestID = c.caller.who, c.caller.remote, "GET /debug/", c.r.URL.Path, "done", c.id
	if c.config.Debug != nil {
		c.noteChange(v)
	}
	return c.pass(c.config.Debug)
}

// pass lets a handler of the program answer.
func (c *call) pass(h http.Handler) (any, error) {
	if h == nil {
		return nil, fail(http.StatusNotFound, codeNotFound, "the program does not serve this")
	}
	h.ServeHTTP(c.w, c.r)
	return streamed{}, nil
}
