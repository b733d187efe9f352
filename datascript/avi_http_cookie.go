package datascript

import (
	"iter"
	"net/http"

	lua "github.com/yuin/gopher-lua"

	"github.com/limpetlb/limpet/internal/httpfield"
)

// get_cookie(name [, context]) returns the value of the first cookie of that
// name, as it is in the header, or nil. Names are case-sensitive.
func httpGetCookie(c call) int {
	name := c.Str(1)
	for n, v := range c.cookies(2) {
		if n == name {
			return c.RetString(v)
		}
	}
	return c.Ret(lua.LNil)
}

// cookie_exists(name [, context]) reports whether there is a cookie of that
// name.
func httpCookieExists(c call) int {
	name := c.Str(1)
	for n := range c.cookies(2) {
		if n == name {
			return c.RetBool(true)
		}
	}
	return c.RetBool(false)
}

// get_cookie_names([context]) returns an array of the names of all cookies,
// each once, in the order of their first occurrence, and their number.
func httpGetCookieNames(c call) int {
	var names []string
	seen := map[string]bool{}
	for n := range c.cookies(1) {
		if !seen[n] {
			seen[n] = true
			names = append(names, n)
			c.Spend(2)
		}
	}
	t := c.L.CreateTable(len(names), 0)
	for _, n := range names {
		t.Append(lua.LString(n))
	}
	c.L.Push(t)
	c.L.Push(lua.LNumber(len(names)))
	return 2
}

// cookies iterates over the cookies of the side that argument n names: those of
// Cookie headers in a request, of Set-Cookie headers in a response.
func (c call) cookies(n int) iter.Seq2[string, string] {
	h, request := c.side(n)
	if request {
		c.parseLines(h["Cookie"])
		return requestCookies(h)
	}
	c.parseLines(h["Set-Cookie"])
	return responseCookies(h)
}

// parseLines is parse for lines of a header.
func (c call) parseLines(lines []string) {
	c.Spend(len(lines) >> 2)
	for _, line := range lines {
		c.Parse(len(line))
	}
}

func requestCookies(h http.Header) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for _, line := range h["Cookie"] {
			for _, c := range httpfield.Cookies(line) {
				if c.HasValue && !yield(c.Name, c.Value) {
					return
				}
			}
		}
	}
}

func responseCookies(h http.Header) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for _, line := range h["Set-Cookie"] {
			if c, _ := httpfield.ParseSetCookie(line); c.HasValue && !yield(c.Name, c.Value) {
				return
			}
		}
	}
}
