package datascripttest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet/datascript"
)

func TestStringGroupsMatch(t *testing.T) {
	groups := StringGroups{
		{Name: "list", Entries: []StringEntry{{Key: "abc"}, {Key: "Bc"}, {Key: "bc"}}},
		{Name: "map", IsMap: true, Entries: []StringEntry{{"/a", "short"}, {"/a/b", "long"}, {"", "empty"}}},
	}
	for _, c := range []struct {
		group, operator, s string
		exactCase          bool
		want               string
		ok                 bool
	}{
		{"list", "equals", "ABC", false, "abc", true},
		{"list", "equals", "ABC", true, "", false},
		{"list", "contains", "xABCx", false, "Bc", true}, // the shortest, and of these the first
		{"list", "endswith", "abc", true, "bc", true},
		{"list", "beginswith", "ab", false, "", false},
		{"map", "beginswith", "/a/b/c", false, "empty", true},
		{"map", "equals", "/a/b", false, "long", true},
		{"map", "equals", "/x", false, "", false},
	} {
		got, ok, err := groups.Match(c.group, c.operator, c.s, c.exactCase)
		if got != c.want || ok != c.ok || err != nil {
			t.Errorf("Match(%q, %q, %q, %v) = %q, %v, %v", c.group, c.operator, c.s, c.exactCase, got, ok, err)
		}
	}
	if _, _, err := groups.Match("none", "equals", "", false); err == nil || err.Error() != `"none": unknown string group` {
		t.Errorf("error %v", err)
	}
}

func TestPoolGroupsChoose(t *testing.T) {
	groups := PoolGroups{{Name: "empty"}, {Name: "g", Members: []PoolMember{{"a", "x"}, {"b", "y"}, {"c", "y"}}}}
	for _, c := range []struct{ group, label, want, err string }{
		{"g", "", "a", ""},
		{"g", "y", "b", ""},
		{"g", "z", "", `pool group "g": unknown priority label: "z"`},
		{"empty", "", "", `pool group "empty": no pool`},
		{"none", "", "", `pool group "none" not found`},
	} {
		got, err := groups.Choose(c.group, c.label)
		if got != c.want || (err == nil) != (c.err == "") || err != nil && err.Error() != c.err {
			t.Errorf("Choose(%q, %q) = %q, %v", c.group, c.label, got, err)
		}
	}
}

func TestAddressFacts(t *testing.T) {
	network := netip.MustParsePrefix("10.0.0.0/8")
	facts := AddressFacts{{network, "", "DE"}, {network, "city", "Berlin"}, {network, "reputation", "bad"}, {network, "", "FR"}}
	inside, outside := netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("11.1.2.3")
	if got, ok := facts.Locate(inside, ""); got != "DE" || !ok {
		t.Errorf("country %q, %v", got, ok)
	}
	if got, ok := facts.Locate(inside, "city"); got != "Berlin" || !ok {
		t.Errorf("city %q, %v", got, ok)
	}
	if got, ok := facts.Reputation(inside); got != "bad" || !ok {
		t.Errorf("reputation %q, %v", got, ok)
	}
	if got, ok := facts.Locate(outside, ""); ok {
		t.Errorf("a place outside: %q", got)
	}
}

func TestTransactionAbilities(t *testing.T) {
	var tx Transaction
	if tx.RequestID() != "test-request" || tx.FailureStatus() != 502 || !tx.CanTunnel() {
		t.Errorf("zero: %q, %d, %v", tx.RequestID(), tx.FailureStatus(), tx.CanTunnel())
	}
	if _, ok := tx.RequestBody(); ok {
		t.Error("a request body")
	}
	if _, ok := tx.ResponseBody(); ok {
		t.Error("a response body")
	}
	if _, ok := tx.TLSFingerprint("ja3"); ok {
		t.Error("a fingerprint")
	}
	tx.SetUserID("alice")
	tx.SetServerTimeout(time.Second)
	tx.BufferRequest(1)
	tx.BufferResponse(2)
	tx.Tunnel()
	tx.SetHashKey("k")
	if tx.UserID() != "alice" || tx.ServerTimeout != time.Second || tx.RequestBuffer != 1 || tx.ResponseBuffer != 2 || !tx.Tunneled || tx.HashKey != "k" {
		t.Errorf("decisions %+v", &tx)
	}
	tx = Transaction{
		ID: "r", Failure: 504, NoTunnel: true, BufferedRequest: []byte("q"), BufferedResponse: []byte{}, Fingerprints: map[string]string{"ja3": "f"},
	}
	request, okRequest := tx.RequestBody()
	response, okResponse := tx.ResponseBody()
	fingerprint, _ := tx.TLSFingerprint("ja3")
	if tx.RequestID() != "r" || tx.FailureStatus() != 504 || tx.CanTunnel() || fingerprint != "f" ||
		string(request) != "q" || !okRequest || len(response) != 0 || !okResponse {
		t.Errorf("set: %+v", &tx)
	}
}

// TestDoBuffers: the events of bodies run if a script asks for them, with as
// much as it asked for.
func TestDoBuffers(t *testing.T) {
	long := strings.Repeat("x", 5000)
	vs := &VirtualService{
		Scripts: scripts(Compile(t, "s",
			at(datascript.HTTPReq, `if avi.http.get_query("buffer") then avi.http.set_request_body_buffer_size(1, avi.http.get_query("buffer")) end`),
			at(datascript.HTTPReqData, `avi.vs.log(#avi.http.get_req_body())`),
			at(datascript.HTTPResp, `if avi.http.get_query("buffer") then avi.http.set_response_body_buffer_size(2) end`),
			at(datascript.HTTPRespData, `avi.vs.log(#avi.http.get_response_body(9))`))),
		Respond: func(netip.AddrPort, *http.Request) (*Response, error) {
			return &Response{Status: 200, Body: []byte(long)}, nil
		},
	}
	for uri, want := range map[string][]string{
		"/":             nil,
		"/?buffer=head": {`[string "s"]:1: 1024`, `[string "s"]:1: 2048`},
	} {
		got := Run(t, vs, httptest.NewRequest("POST", uri, strings.NewReader(long)))[0]
		if sent, _ := io.ReadAll(got.Sent.Body); len(sent) != 5000 {
			t.Errorf("%s: server got %d bytes", uri, len(sent))
		}
		if diff := cmp.Diff(want, got.Log); diff != "" || len(got.Response.Body) != 5000 {
			t.Errorf("%s: body of %d bytes, log (-want +got):\n%s", uri, len(got.Response.Body), diff)
		}
	}
	// The kit forwarded a body that a real service refuses.
	got := Run(t, vs, httptest.NewRequest("POST", "/?buffer=refuse", strings.NewReader(long)))[0]
	if got.Response == nil || got.Response.Status != 413 || got.Sent != nil || len(got.Log) != 0 {
		t.Errorf("a longer body: %+v", got)
	}
}

// A script whose data event can never run passed its tests, and was off where
// it was deployed.
func TestDoNeverRuns(t *testing.T) {
	filter := scripts(Compile(t, "filter", at(datascript.HTTPReqData, `avi.http.response(403)`), at(datascript.HTTPRespData, `x = 1`)))
	_, err := (&VirtualService{Scripts: filter}).Do(httptest.NewRequest("POST", "/", strings.NewReader("x")))
	for _, want := range []string{
		`script "filter": HTTP_REQ_DATA never runs: set requestBody.bytes, or call avi.http.set_request_body_buffer_size in HTTP_REQ`,
		`script "filter": HTTP_RESP_DATA never runs: set responseBody.bytes, or call avi.http.set_response_body_buffer_size in HTTP_RESP`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v has no word of %s", err, want)
		}
	}
	vs := &VirtualService{Scripts: filter, RequestBody: BodyBuffer{Bytes: 16}, ResponseBody: BodyBuffer{Bytes: 16}}
	if got := Run(t, vs, httptest.NewRequest("POST", "/", strings.NewReader("x")))[0]; got.Response.Status != 403 {
		t.Errorf("status %d", got.Response.Status)
	}
	if _, err := (&VirtualService{RequestBody: BodyBuffer{Bytes: 33 << 20}}).Do(httptest.NewRequest("GET", "/", nil)); err == nil {
		t.Error("a buffer of 33 MiB")
	}
}
