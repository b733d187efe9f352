package datascript

import (
	"net/http"
	"strconv"

	lua "github.com/yuin/gopher-lua"
)

// The module avi.http. Its functions are in files by subject.
var httpEntries = []entry{
	// avi_http_header.go
	{name: "get_header", call: httpGetHeader, events: notFailed},
	{name: "add_header", call: httpAddHeader, events: mutable},
	{name: "replace_header", call: httpReplaceHeader, events: mutable},
	{name: "remove_header", call: httpRemoveHeader, events: mutable},
	// avi_http_cookie.go
	{name: "get_cookie", call: httpGetCookie, events: notFailed},
	{name: "get_cookie_names", call: httpGetCookieNames, events: notFailed},
	{name: "cookie_exists", call: httpCookieExists, events: notFailed},
	// avi_http_cookie_edit.go
	{name: "add_cookie", call: httpAddCookie, events: mutable},
	{name: "replace_cookie", call: httpReplaceCookie, events: mutable},
	{name: "remove_cookie", call: httpRemoveCookie, events: mutable},
	{name: "update_cookie", call: httpUpdateCookie, events: events(HTTPResp)},
	number_("Lax", sameSiteLax),
	number_("None", sameSiteNone),
	number_("Strict", sameSiteStrict),
	// avi_http_uri.go
	{name: "hostname", call: httpHostname, events: notFailed},
	{name: "get_host_tokens", call: httpGetHostTokens, events: notFailed},
	{name: "get_path", call: httpGetPath, events: notFailed},
	{name: "get_path_tokens", call: httpGetPathTokens, events: notFailed},
	{name: "get_query", call: httpGetQuery, events: notFailed},
	{name: "get_uri", call: httpGetURI, events: notFailed},
	{name: "set_path", call: httpSetPath, events: requestEvents},
	{name: "set_query", call: httpSetQuery, events: requestEvents},
	{name: "set_uri", call: httpSetURI, events: requestEvents},
	// avi_http_reply.go
	{name: "response", call: httpResponse},
	{name: "redirect", call: httpRedirect, events: requestEvents | failureEvents},
	{name: "close_conn", call: httpCloseConn, events: notFailed},
	{name: "status", call: httpStatus, events: events(HTTPResp, HTTPRespData)},
	// avi_http_user.go
	{name: "get_userid", call: httpGetUserID, events: notFailed},
	{name: "set_userid", call: httpSetUserID, events: notFailed},
	{name: "saml_session_decrypt", call: httpSAMLSessionDecrypt, events: notFailed},
	{name: "oauth_get_claim", call: httpOAuthGetClaim, events: notFailed},
	// avi_http_exchange.go
	{name: "get_request_id", call: httpGetRequestID, events: notFailed},
	{name: "get_reqvar", call: httpGetReqvar, events: notFailed},
	{name: "set_reqvar", call: httpSetReqvar, events: notFailed},
	{name: "set_server_timeout", call: httpSetServerTimeout, events: requestEvents},
	{name: "internal_status", call: httpInternalStatus, events: failureEvents},
	{name: "disable", call: httpDisable, events: events(HTTPResp)},
	// avi_http_body.go
	{name: "get_req_body", call: httpGetReqBody, events: bodyEvents},
	{name: "set_request_body_buffer_size", call: httpSetRequestBodyBufferSize, events: events(HTTPReq)},
	{name: "get_response_body", call: httpGetResponseBody, events: events(HTTPRespData)},
	{name: "set_response_body_buffer_size", call: httpSetResponseBodyBufferSize, events: events(HTTPResp)},

	{name: "method", call: httpMethod, events: notFailed},
	{name: "protocol", call: httpProtocol, events: notFailed},
	{name: "scheme", call: httpScheme, events: notFailed},
	{name: "secure", call: httpSecure, events: notFailed},
}

// mutable are the events in which headers may be changed.
var mutable = beforeResponse | events(HTTPResp)

// bodyEvents are the events in which a script may ask for the request's body.
var bodyEvents = events(HTTPReq, HTTPReqData, LBDone, HTTPResp, HTTPRespData)

// method() returns the request's method, as received.
func httpMethod(c call) int { return c.RetString(c.tx.Original().Method) }

// encrypted reports whether the client spoke TLS, to us or to a proxy in front.
func (c call) encrypted() bool {
	if r, ok := c.tx.(EncryptionReporter); ok {
		return r.Encrypted()
	}
	return c.tx.Original().TLS != nil
}

// protocol() returns "https" if the client's connection is encrypted, else
// "http".
func httpProtocol(c call) int {
	if c.encrypted() {
		return c.RetString("https")
	}
	return c.RetString("http")
}

// scheme() returns protocol() and "://".
func httpScheme(c call) int {
	if c.encrypted() {
		return c.RetString("https://")
	}
	return c.RetString("http://")
}

// secure() returns "on" if the client's connection is encrypted, else nil.
func httpSecure(c call) int {
	if c.encrypted() {
		return c.RetString("on")
	}
	return c.Ret(lua.LNil)
}

// status() returns the status that the client will see, as a string of three
// digits.
func httpStatus(c call) int {
	if c.reply != nil {
		return c.RetString(strconv.Itoa(c.reply.status))
	}
	status, _, ok := c.tx.Response()
	if !ok {
		return c.Ret(lua.LNil)
	}
	return c.RetString(strconv.Itoa(status))
}

// onResponse reports whether the script runs on the response's side.
func (c call) onResponse() bool {
	return c.event == HTTPResp || c.event == HTTPRespData
}

// side returns the header that an optional context argument means: that of the
// request or of the response. It is nil if there is no response yet.
func (c call) side(n int) (h http.Header, request bool) {
	request = !c.onResponse()
	switch v := c.Arg(n); v {
	case lua.LNil:
	case lua.LValue(requestToken()):
		request = true
	case lua.LValue(responseToken()):
		request = false
	default:
		c.ArgError(n, "avi.HTTP_REQUEST or avi.HTTP_RESPONSE expected")
	}
	if request {
		return c.tx.Request().Header, true
	}
	return c.responseHeader(), false
}

// responseHeader returns the header that the client will see: that of the
// reply, if the script has replaced the response.
func (c call) responseHeader() http.Header {
	if c.reply != nil && c.onResponse() {
		return c.reply.header
	}
	_, h, _ := c.tx.Response()
	return h
}

func requestToken() *lua.LUserData  { return library.Lookup("avi.HTTP_REQUEST").Object }
func responseToken() *lua.LUserData { return library.Lookup("avi.HTTP_RESPONSE").Object }

func isSide(v lua.LValue) bool { return v == requestToken() || v == responseToken() }
