package datascript

import (
	"net/http"

	"github.com/limpetlb/limpet/internal/lua51"
)

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

	str_("CIPHER_AES", cipherAES),
	str_("CIPHER_3DES", cipher3DES),

	// Some scripts quote these, so the value of each is its name.
	str_("CLIENT_CERT", "avi.CLIENT_CERT"),
	str_("CLIENT_CERT_FINGERPRINT", "avi.CLIENT_CERT_FINGERPRINT"),
	str_("CLIENT_CERT_SUBJECT", "avi.CLIENT_CERT_SUBJECT"),
	str_("CLIENT_CERT_ISSUER", "avi.CLIENT_CERT_ISSUER"),
	str_("CLIENT_CERT_SERIAL", "avi.CLIENT_CERT_SERIAL"),
	str_("CLIENT_CERT_NOTVALIDBEFORE", "avi.CLIENT_CERT_NOTVALIDBEFORE"),
	str_("CLIENT_CERT_NOTVALIDAFTER", "avi.CLIENT_CERT_NOTVALIDAFTER"),
	str_("CLIENT_CERT_VERSION", "avi.CLIENT_CERT_VERSION"),
	str_("CLIENT_CERT_SIGALG", "avi.CLIENT_CERT_SIGALG"),
	str_("CLIENT_CERT_ESCAPED", "avi.CLIENT_CERT_ESCAPED"),
	str_("CLIENT_CERT_SAN_EXTENSION", "avi.CLIENT_CERT_SAN_EXTENSION"),
	str_("CLIENT_CERT_SAN_EXTENSIONS", "avi.CLIENT_CERT_SAN_EXTENSIONS"),
	str_("CLIENT_CERT_X509_EXTENSIONS", "avi.CLIENT_CERT_X509_EXTENSIONS"),

	// For avi.ssl.set_pki_profile and avi.horizon.get_server_ports, which are
	// not supported. Scripts may still name them.
	str_("CLIENT_VERIFY_REQUIRE", "CLIENT_VERIFY_REQUIRE"),
	str_("CLIENT_VERIFY_REQUEST", "CLIENT_VERIFY_REQUEST"),
	str_("CLIENT_VERIFY_DISABLE", "CLIENT_VERIFY_DISABLE"),
	str_("AUTHENTICATE_ONLY_ONCE", "AUTHENTICATE_ONLY_ONCE"),
	number_("horizon.PRIMARY_PORT", 1),

	str_("RL_CUSTOM_STRING", "RL_CUSTOM_STRING"),
	str_("RL_ACTION_NONE", "RL_ACTION_NONE"),
	str_("RL_ACTION_CLOSE_CONN", "RL_ACTION_CLOSE_CONN"),
	str_("RL_ACTION_RESET_CONN", "RL_ACTION_RESET_CONN"),
	str_("RL_ACTION_DROP_CONN", "RL_ACTION_DROP_CONN"),
	str_("RL_ACTION_LOCAL_RSP", "RL_ACTION_LOCAL_RSP"),
	str_("RL_ACTION_REDIRECT", "RL_ACTION_REDIRECT"),

	// These choose an overload, so no string of a script may equal them.
	{name: "HTTP_REQUEST", kind: lua51.Token},
	{name: "HTTP_RESPONSE", kind: lua51.Token},
	{name: "QUERY_STRING", kind: lua51.Token},
	{name: "QUERY_TABLE", kind: lua51.Token},
}

func str_(name, value string) entry { return entry{name: name, kind: lua51.Constant, text: value} }

func number_(name string, value float64) entry {
	return entry{name: name, kind: lua51.Numeric, num: value}
}
