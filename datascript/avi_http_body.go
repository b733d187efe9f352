package datascript

import (
	lua "github.com/yuin/gopher-lua"

	"github.com/limpetlb/limpet/internal/luastr"
)

// Sizes of bodies are in kilobytes of 1,024 bytes, in scripts only.
const (
	kilobyte        = 1 << 10
	maxBufferedSize = 32768 // kB
)

// get_req_body([size]) returns the first size kilobytes of the request's body,
// or all of it that is buffered, and whether that is the whole body; nil if
// nothing is buffered. set_request_body_buffer_size or the host must have
// buffered the body, which is available from HTTP_REQ_DATA on. Reading does not
// consume it.
func httpGetReqBody(c call) int {
	size := -1
	if c.Arg(1) != lua.LNil {
		size = c.kilobytes(1, 0)
	}
	b, ok := c.tx.(BodyBufferer)
	if !ok || c.event == HTTPReq {
		return c.Ret(lua.LNil)
	}
	body, ok := b.RequestBody()
	if !ok {
		return c.Ret(lua.LNil)
	}
	whole := b.RequestBodyWhole()
	if size >= 0 && size < len(body) {
		body, whole = body[:size], false
	}
	if len(body) == 0 && whole {
		c.L.Push(lua.LNil)
	} else {
		c.retBytes(body)
	}
	c.RetBool(whole)
	return 2
}

// set_request_body_buffer_size(size [, longer]) buffers up to size kilobytes of
// the request's body in memory before HTTP_REQ_DATA: at most 32,768, and 0 for
// none. longer decides about a longer body: with "head", scripts see the
// beginning and the server gets all of it; with "refuse", the client gets 413.
// Without it, the host decides.
func httpSetRequestBodyBufferSize(c call) int {
	b := ability[BodyBufferer](c)
	size := c.kilobytes(1, 0)
	if c.Arg(2) == lua.LNil {
		c.decide(func() { b.BufferRequest(size) })
		return 0
	}
	longer := c.name(2)
	if longer != "head" && longer != "refuse" {
		c.ArgError(2, "%q is neither head nor refuse", longer)
	}
	c.decide(func() { b.BufferRequestLonger(size, longer == "head") })
	return 0
}

// get_response_body(size [, offset]) returns up to size kilobytes of the
// response's body, from offset kilobytes on, as the server encoded it; nil if
// set_response_body_buffer_size or the host has not buffered any.
func httpGetResponseBody(c call) int {
	size, offset := c.kilobytes(1, 0), 0
	if c.Arg(2) != lua.LNil {
		offset = c.kilobytes(2, 0)
	}
	b, ok := c.tx.(BodyBufferer)
	if !ok {
		return c.Ret(lua.LNil)
	}
	body, ok := b.ResponseBody()
	if !ok {
		return c.Ret(lua.LNil)
	}
	body = body[min(offset, len(body)):]
	return c.retBytes(body[:min(size, len(body))])
}

// set_response_body_buffer_size(size) buffers up to size kilobytes of the
// response's body in memory before HTTP_RESP_DATA: 1 to 32,768.
func httpSetResponseBodyBufferSize(c call) int {
	b := ability[BodyBufferer](c)
	size := c.kilobytes(1, 1)
	c.decide(func() { b.BufferResponse(size) })
	return 0
}

// kilobytes reads a size and returns it in bytes.
func (c call) kilobytes(n, least int) int {
	size := c.Num(n)
	if !(size >= float64(least) && size <= maxBufferedSize) {
		c.ArgError(n, "%s kB is not between %d and %d", luastr.FormatNumber(size), least, maxBufferedSize)
	}
	return int(size) * kilobyte
}

// retBytes returns bytes as a string, if it is not too large.
func (c call) retBytes(b []byte) int {
	c.Allow(len(b))
	return c.RetString(string(b))
}
