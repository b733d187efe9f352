package datascript

import "net/http"

// The constants of the API. Methods and status codes are strings, so that
// they compare with what avi.http.method and avi.http.status return.
var aviConstants = []entry{
	str_("HTTP_GET", http.MethodGet),
	str_("HTTP_POST", http.MethodPost),
	str_("HTTP_PUT", http.MethodPut),
	str_("HTTP_HEAD", http.MethodHead),
	str_("HTTP_DELETE", http.MethodDelete),
	str_("HTTP_OPTIONS", http.MethodOptions),
	str_("HTTP_PATCH", http.MethodPatch),
	str_("HTTP_TRACE", http.MethodTrace),
	str_("HTTP_MKCOL", "MKCOL"),
	str_("HTTP_COPY", "COPY"),
	str_("HTTP_MOVE", "MOVE"),
	str_("HTTP_PROPFIND", "PROPFIND"),
	str_("HTTP_PROPPATCH", "PROPPATCH"),
	str_("HTTP_LOCK", "LOCK"),
	str_("HTTP_UNLOCK", "UNLOCK"),

	str_("HTTP_OK", "200"),
	str_("HTTP_CREATED", "201"),
	str_("HTTP_MOVED_PERMANENTLY", "301"),
	str_("HTTP_MOVED_TEMPORARILY", "302"),
	str_("HTTP_NOT_MODIFIED", "304"),
	str_("HTTP_TEMPORARY_REDIRECT", "307"),
	str_("HTTP_BAD_REQUEST", "400"),
	str_("HTTP_UNAUTHORIZED", "401"),
	str_("HTTP_FORBIDDEN", "403"),
	str_("HTTP_NOT_FOUND", "404"),
	str_("HTTP_NOT_ALLOWED", "405"),
	str_("HTTP_INTERNAL_SERVER_ERROR", "500"),
	str_("HTTP_METHOD_NOT_IMPLEMENTED", "501"),
	str_("HTTP_SERVICE_UNAVAILABLE", "503"),
	str_("HTTP_GATEWAY_TIMEOUT", "504"),

	// These choose an overload, so no string of a script's may equal them.
	{name: "HTTP_REQUEST", kind: token},
	{name: "HTTP_RESPONSE", kind: token},
	{name: "QUERY_STRING", kind: token},
	{name: "QUERY_TABLE", kind: token},
}

func str_(name, value string) entry { return entry{name: name, kind: constant, text: value} }
