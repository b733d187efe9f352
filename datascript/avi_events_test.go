package datascript

import (
	"slices"
	"strings"
	"testing"
)

// legalEvents says in which events the functions of avi may be called, by
// the columns of the reference: r HTTP_REQ, d HTTP_REQ_DATA, l LB_DONE,
// R HTTP_RESP, D HTTP_RESP_DATA, f RESP_FAILED and HTTP_LB_FAILED, a HTTP_AUTH
// and HTTP_POST_AUTH. What is not listed may be called in all.
var legalEvents = []struct{ events, names string }{
	{"rdlRDa", `avi.http.method avi.http.hostname avi.http.get_uri avi.http.get_path avi.http.get_path_tokens avi.http.get_query
		avi.http.get_host_tokens avi.http.scheme avi.http.protocol avi.http.secure avi.http.get_userid avi.http.set_userid
		avi.http.get_header avi.http.get_cookie avi.http.get_cookie_names avi.http.cookie_exists
		avi.http.saml_session_decrypt avi.http.oauth_get_claim
		avi.http.get_request_id avi.http.get_reqvar avi.http.set_reqvar avi.http.close_conn avi.vs.close_conn`},
	{"rdlRa", `avi.http.add_header avi.http.replace_header avi.http.remove_header
		avi.http.add_cookie avi.http.replace_cookie avi.http.remove_cookie`},
	{"rda", `avi.http.set_uri avi.http.set_path avi.http.set_query avi.http.set_server_timeout
		avi.pool.select avi.poolgroup.select avi.pool.chash`},
	{"rdaf", "avi.http.redirect"},
	{"RD", "avi.http.status"},
	{"f", "avi.http.internal_status"},
	{"rdlRD", "avi.http.get_req_body"},
	{"r", "avi.http.set_request_body_buffer_size"},
	{"R", "avi.http.set_response_body_buffer_size avi.http.disable avi.http.update_cookie"},
	{"D", "avi.http.get_response_body"},
	{"rdRDa", "avi.vs.rate_limit avi.vs.ratelimit.exceed avi.vs.rate.limit.exceed"},
}

var eventLetters = map[Event]string{
	HTTPAuth: "a", HTTPPostAuth: "a", HTTPReq: "r", HTTPReqData: "d", LBDone: "l",
	HTTPLBFailed: "f", RespFailed: "f", HTTPResp: "R", HTTPRespData: "D",
}

// TestLegalEvents calls every function of avi in every event.
func TestLegalEvents(t *testing.T) {
	e := newEngine(t, Env{})
	legal := map[string]string{}
	for _, row := range legalEvents {
		for name := range strings.FieldsSeq(row.names) {
			if symbols[name] == nil || symbols[name].call == nil {
				t.Errorf("%s: not a function", name)
			}
			legal[name] = row.events
		}
	}
	for name, sym := range symbols {
		if !strings.HasPrefix(name, "avi.") || sym.call == nil || slices.Contains(unsupportedNames, name) {
			continue
		}
		for ev, letter := range eventLetters {
			want := legal[name] == "" || strings.Contains(legal[name], letter)
			x := newExchange()
			x.respond(200, "10.1.1.1:80")
			err := e.Run(t.Context(), mustCompile(t, Chunk{Event: ev, Source: name + "()"}), ev, x)
			refused := err != nil && strings.Contains(err.Error(), name+": not allowed in event "+ev.String())
			if refused == want {
				t.Errorf("%s in %v: error %v; legal is %v", name, ev, err, want)
			}
		}
	}
}
