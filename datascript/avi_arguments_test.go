package datascript

import (
	"fmt"
	"strings"
	"testing"
)

// typedArguments are calls of the functions of avi and string that insist on
// the types of their arguments, with arguments that fit.
var typedArguments = []struct {
	event     Event
	name      string
	arguments string // separated by "|"
}{
	{HTTPReq, "string.beginswith", `"a"|"a"`},
	{HTTPReq, "string.contains", `"a"|"a"`},
	{HTTPReq, "string.endswith", `"a"|"a"`},
	{HTTPReq, "string.len", `"a"`},
	{HTTPReq, "string.lower", `"a"`},
	{HTTPReq, "string.sub", `"a"|1|2`},
	{HTTPReq, "string.upper", `"a"`},
	{HTTPReq, "string.split", `"a"|","`},
	{HTTPReq, "avi.vs.ratelimit.exceed", `"l"|"k"|1`},
	{HTTPReq, "avi.vs.rate.limit.exceed", `"l"|"k"|1`},
	{HTTPReq, "avi.http.oauth_get_claim", `0|"sub"`},
	{HTTPReq, "avi.jwt.verify", `"good"|"k"|{leeway = 1}`},
	{HTTPReq, "avi.jwt.claims", `"e30.e30."`},
	{HTTPReq, "avi.ssl.check_err_in_client_cert", `0`},
	{HTTPReq, "avi.vs.rate_limit", `avi.RL_CUSTOM_STRING|"k"`},
	{HTTPReq, "avi.vs.analytics.counter", `"c"|1|1`},
	{HTTPReq, "avi.vs.analytics.gauge", `"g"|1|1`},
	{HTTPReq, "avi.vs.analytics.get_metric", `"c"|1`},
	{HTTPReq, "avi.vs.analytics.get_counter", `"c"`},
	{HTTPReq, "avi.http.add_cookie", `"a"|"b"`},
	{HTTPResp, "avi.http.add_cookie", `"a"|"b"|"/"|"example.com"|1|1`},
	{HTTPReq, "avi.http.replace_cookie", `"a"|"b"`},
	{HTTPReq, "avi.http.remove_cookie", `"a"|"b"`},
	{HTTPResp, "avi.http.update_cookie", `"a"|"path"|"/"`},
	{HTTPReq, "avi.http.cookie_exists", `"a"|avi.HTTP_REQUEST`},
	{HTTPReq, "avi.http.get_cookie", `"a"|avi.HTTP_REQUEST`},
	{HTTPReq, "avi.http.get_cookie_names", `avi.HTTP_REQUEST`},
	{HTTPReq, "avi.http.get_header", `"a"|avi.HTTP_REQUEST`},
	{HTTPReq, "avi.http.add_header", `"a"|"b"`},
	{HTTPReq, "avi.http.replace_header", `"a"|"b"`},
	{HTTPReq, "avi.http.remove_header", `"a"`},
	{HTTPReq, "avi.http.get_host_tokens", `1|2`},
	{HTTPReq, "avi.http.get_path_tokens", `1|2`},
	{HTTPReq, "avi.http.get_query", `"a"`},
	{HTTPReq, "avi.http.set_path", `"/"`},
	{HTTPReq, "avi.http.set_uri", `"/"`},
	{HTTPReq, "avi.http.set_userid", `"a"`},
	{HTTPReq, "avi.http.redirect", `"/"|302`},
	{HTTPReq, "avi.http.response", `200|{}|"body"`},
	{HTTPReq, "avi.http.set_server_timeout", `1`},
	{HTTPReqData, "avi.http.get_req_body", `1`},
	{HTTPRespData, "avi.http.get_response_body", `1|1`},
	{HTTPReq, "avi.http.set_request_body_buffer_size", `1|"head"`},
	{HTTPResp, "avi.http.set_response_body_buffer_size", `1`},
	{HTTPReq, "avi.pool.select", `"my_pool"|"10.1.1.1"|80`},
	{HTTPReq, "avi.pool.get_servers", `"my_pool"`},
	{HTTPReq, "avi.pool.get_server_status", `"my_pool"|"10.1.1.1"|80`},
	{HTTPReq, "avi.pool.chash", `"k"`},
	{HTTPReq, "avi.poolgroup.select", `"edge"|"label"`},
	{HTTPReq, "avi.ipgroup.contains", `"Blacklist"|"10.0.0.1"`},
	{HTTPReq, "avi.stringgroup.equals", `"agents"|"a"`},
	{HTTPReq, "avi.stringgroup.beginswith_CASE", `"agents"|"a"`},
	{HTTPReq, "avi.ssl.client_cert", `avi.CLIENT_CERT|avi.CLIENT_CERT_SERIAL`},
	{HTTPReq, "avi.ssl.get_tls_fingerprint", `"ja3"`},
	{HTTPReq, "avi.crypto.encrypt", `"a"|"0123456789abcdef"|"0123456789abcdef"|avi.CIPHER_AES`},
	{HTTPReq, "avi.crypto.seal", `"a"|"0123456789abcdef"|"context"`},
	{HTTPReq, "avi.utils.base64_encode", `"a"`},
	{HTTPReq, "avi.utils.base64_decode", `"YQ"`},
	{HTTPReq, "avi.utils.uri_decode", `"a"`},
	{HTTPReq, "avi.utils.local_uri", `"/a"`},
	{HTTPReq, "avi.utils.sha1_hash", `"a"`},
	{HTTPReq, "avi.utils.md5_hash", `"a"`},
	{HTTPReq, "avi.utils.murmur_hash", `"a"`},
	{HTTPReq, "avi.utils.rand_bytes", `1`},
	{HTTPReq, "avi.utils.get_geo_from_ip", `"10.0.0.1"`},
	{HTTPReq, "avi.utils.get_ip_reputation", `"10.0.0.1"`},
	{HTTPReq, "avi.utils.ip.netaddr", `"10.0.0.1"|"255.0.0.0"`},
	{HTTPReq, "avi.utils.ip_in_subnet", `"10.0.0.1"|"10.0.0.0"|8`},
}

type fakePoolGroups struct{}

func (fakePoolGroups) Choose(string, string) (string, error) { return "my_pool", nil }

type fakeStringGroups struct{}

func (fakeStringGroups) Match(string, string, string, bool) (string, bool, error) {
	return "", false, nil
}

// TestArgumentTypes puts a function in the place of each argument in turn.
func TestArgumentTypes(t *testing.T) {
	limiter := newLimiter(t, RateLimit{Count: 1000})
	e := newEngine(t, Env{
		PoolGroups: fakePoolGroups{}, StringGroups: fakeStringGroups{}, Geo: fakeGeo{}, Reputations: fakeGeo{}, Tokens: fakeTokens{},
		RateLimiters: map[string]*RateLimiter{"l": limiter}, RateProfile: &RateProfile{Limiter: limiter},
	})
	for _, tt := range typedArguments {
		arguments := strings.Split(tt.arguments, "|")
		x := &ableExchange{exchange: newExchange()}
		x.respond(200, "10.1.1.1:80")
		call := func(arguments []string) error {
			return runAt(t, e, tt.event, x, tt.name+"("+strings.Join(arguments, ", ")+")")
		}
		if err := call(arguments); err != nil {
			t.Errorf("%s(%s): %v", tt.name, tt.arguments, err)
		}
		for i := range arguments {
			wrong := strings.Split(tt.arguments, "|")
			wrong[i] = "print"
			want := fmt.Sprintf("bad argument #%d to '%s'", i+1, symbols[tt.name].field())
			if err := call(wrong); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s with a function as argument %d: error %v", tt.name, i+1, err)
			}
		}
	}
}
