package datascript

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet/internal/testrace"
)

// ableExchange is an exchange with all abilities, which notes what is decided.
type ableExchange struct {
	*exchange
	user  string
	notes []string

	partial bool // the request's body is longer than what was read
}

func (x *ableExchange) note(format string, args ...any) {
	x.notes = append(x.notes, fmt.Sprintf(format, args...))
}
func (x *ableExchange) UserID() string                   { return x.user }
func (x *ableExchange) SetUserID(id string)              { x.user = id; x.note("user %q", id) }
func (x *ableExchange) RequestID() string                { return "id-1" }
func (x *ableExchange) SetServerTimeout(d time.Duration) { x.note("timeout %v", d) }
func (x *ableExchange) BufferRequest(max int)            { x.note("buffer request %d", max) }
func (x *ableExchange) BufferRequestLonger(max int, head bool) {
	x.note("buffer request %d, head %v", max, head)
}
func (x *ableExchange) RequestBodyWhole() bool                    { return !x.partial }
func (x *ableExchange) RequestBody() ([]byte, bool)               { return []byte(strings.Repeat("q", 3000)), true }
func (x *ableExchange) BufferResponse(max int)                    { x.note("buffer response %d", max) }
func (x *ableExchange) ResponseBody() ([]byte, bool)              { return []byte(strings.Repeat("p", 3000)), true }
func (x *ableExchange) FailureStatus() int                        { return 504 }
func (x *ableExchange) PersistenceResult() string                 { return "hit" }
func (x *ableExchange) CanTunnel() bool                           { return true }
func (x *ableExchange) Tunnel()                                   { x.note("tunnel") }
func (x *ableExchange) TLSFingerprint(kind string) (string, bool) { return kind + "!", kind == "ja3" }
func (x *ableExchange) SetHashKey(key string)                     { x.note("hash %q", key) }

func runAt(t testing.TB, e *Engine, ev Event, tx Transaction, source string) error {
	t.Helper()
	return e.Run(t.Context(), mustCompile(t, Chunk{Event: ev, Source: source}), ev, tx)
}

// What scripts decide reaches the transaction in their order, after the
// choice of a pool and before an answer; of a failed script nothing does.
func TestAbilities(t *testing.T) {
	tests := []struct {
		name   string
		event  Event
		source string
		notes  []string
		log    []string
	}{
		{"request", HTTPReq, `avi.http.set_userid("a") avi.http.set_userid("b") avi.http.set_server_timeout(250)
			avi.http.set_request_body_buffer_size(2) avi.pool.chash("k") avi.pool.select("my_pool") avi.http.response(403)
			avi.vs.log(avi.http.get_userid(), avi.http.get_request_id(), avi.http.get_req_body())`,
			[]string{`user "a"`, `user "b"`, "timeout 250ms", "buffer request 2048", `hash "k"`}, []string{"bid-1nil"}},
		{"request, longer bodies", HTTPReq, `avi.http.set_request_body_buffer_size(1, "head") avi.http.set_request_body_buffer_size("2", "refuse")
			avi.vs.log(select(2, pcall(avi.http.set_request_body_buffer_size, 1, "tail")))`,
			[]string{"buffer request 1024, head true", "buffer request 2048, head false"},
			[]string{`[string "My Script"]:2: bad argument #2 to 'set_request_body_buffer_size' ("tail" is neither head nor refuse)`}},
		{"request data, whole", HTTPReqData, `local b, whole = avi.http.get_req_body() local c, part = avi.http.get_req_body(2) local d, all = avi.http.get_req_body(3)
			avi.vs.log(#b, " ", whole, " ", #c, " ", part, " ", #d, " ", all)`, nil, []string{"3000 true 2048 false 3000 true"}},
		{"request data", HTTPReqData, `avi.vs.log(#avi.http.get_req_body(), " ", #avi.http.get_req_body(2), " ", #avi.http.get_req_body(0))`,
			nil, []string{"3000 2048 0"}},
		{"response", HTTPResp, `avi.http.set_response_body_buffer_size(4.9) avi.http.disable() avi.http.set_userid(nil)`,
			[]string{"buffer response 4096", "tunnel", `user ""`}, nil},
		{"response data", HTTPRespData, `avi.vs.log(#avi.http.get_response_body(1), " ", #avi.http.get_response_body(32768, 1), " [", avi.http.get_response_body(1, 3), "]")`,
			nil, []string{"1024 1976 []"}},
		{"failure", RespFailed, `avi.vs.log(avi.http.internal_status())`, nil, []string{"504"}},
	}
	e := newEngine(t, Env{})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, failing := range []bool{false, true} {
				x := &ableExchange{exchange: newExchange()}
				x.respond(200, "10.1.1.1:80")
				source, notes := tt.source, tt.notes
				if failing {
					source, notes = source+" error('late')", nil
				}
				if err := runAt(t, e, tt.event, x, source); (err != nil) != failing {
					t.Fatal(err)
				}
				if diff := cmp.Diff(notes, x.notes); diff != "" {
					t.Errorf("failing %v: decisions (-want +got):\n%s", failing, diff)
				}
				if diff := cmp.Diff(tt.log, x.logged()); diff != "" {
					t.Errorf("failing %v: log (-want +got):\n%s", failing, diff)
				}
			}
		})
	}
}

// A transaction without an ability fails the script in clear words, or, where
// nothing is as good as an answer, gives nil.
func TestAbilitiesMissing(t *testing.T) {
	e := newEngine(t, Env{})
	for _, tt := range []struct {
		event        Event
		source, want string // want: the result, or the error if it has a colon
	}{
		{HTTPReq, `avi.http.set_userid("a")`, "avi.http.set_userid: not possible in this virtual service"},
		{HTTPReq, `avi.http.get_request_id()`, "avi.http.get_request_id: not possible in this virtual service"},
		{HTTPReq, `avi.http.set_server_timeout(1)`, "avi.http.set_server_timeout: not possible in this virtual service"},
		{HTTPReq, `avi.http.set_request_body_buffer_size(1)`, "avi.http.set_request_body_buffer_size: not possible in this virtual service"},
		{HTTPReq, `avi.http.set_request_body_buffer_size(1, "head")`, "avi.http.set_request_body_buffer_size: not possible in this virtual service"},
		{HTTPResp, `avi.http.set_response_body_buffer_size(1)`, "avi.http.set_response_body_buffer_size: not possible in this virtual service"},
		{RespFailed, `avi.http.internal_status()`, "avi.http.internal_status: not possible in this virtual service"},
		{HTTPResp, `avi.http.disable()`, "avi.http.disable: not possible in this virtual service"},
		{HTTPReq, `avi.pool.chash("k")`, "avi.pool.chash: not possible in this virtual service"},
		{HTTPReq, `avi.vs.get_open_conns()`, "avi.vs.get_open_conns: not possible in this virtual service"},
		{HTTPReq, `avi.http.get_userid()`, "nil"},
		{HTTPReqData, `avi.http.get_req_body()`, "nil"},
		{HTTPRespData, `avi.http.get_response_body(1)`, "nil"},
		{HTTPReq, `avi.ssl.get_tls_fingerprint("ja3")`, "nil"},
		{HTTPReq, `avi.http.saml_session_decrypt()`, "nil"},
		{HTTPReq, `avi.http.oauth_get_claim(0, "sub")`, "nil"},
		{HTTPReq, `avi.vs.se_count()`, "1"},
	} {
		x := newExchange()
		x.respond(200, "10.1.1.1:80")
		err := runAt(t, e, tt.event, x, "avi.vs.log("+tt.source+")")
		got := strings.Join(x.logged(), "")
		if err != nil {
			_, got, _ = strings.Cut(err.Error(), ": ")
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.source, got, tt.want)
		}
	}
}

// A script can tell the beginning of a body from the whole.
func TestBodyInPart(t *testing.T) {
	x := &ableExchange{exchange: newExchange(), partial: true}
	source := `local b, whole = avi.http.get_req_body() avi.vs.log(#b, " ", whole)`
	if err := runAt(t, newEngine(t, Env{}), HTTPReqData, x, source); err != nil || strings.Join(x.logged(), "") != "3000 false" {
		t.Errorf("error %v, log %v", err, x.logs)
	}
}

// Whether a script may have bodies buffered is asked of its code, however it
// gets at the function.
func TestBuffers(t *testing.T) {
	for _, tt := range []struct {
		name, source      string
		request, response bool
	}{
		{"neither", "-- HTTP_REQ_DATA\n-- avi.http.set_request_body_buffer_size(1)\nx = avi.http.get_req_body()", false, false},
		{"request", "-- HTTP_REQ\navi.http.set_request_body_buffer_size(1)", true, false},
		{"response", "-- HTTP_RESP\navi.http.set_response_body_buffer_size(1)", false, true},
		{"in a function", "-- HTTP_REQ\nlocal function f() if x then avi.http.set_request_body_buffer_size(1) end end", true, false},
		{"by pcall", "-- HTTP_REQ\npcall(avi.http.set_request_body_buffer_size, 1)", true, false},
		{"by another name", "-- HTTP_REQ\nlocal h = avi.http h.set_request_body_buffer_size(1)", true, false},
		{"by index", "-- HTTP_REQ\nlocal name = 'set_request_body_buffer_size' avi.http[name](1)", true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := mustCompile(t, Chunk{Source: tt.source})
			if s.BuffersRequest() != tt.request || s.BuffersResponse() != tt.response {
				t.Errorf("request %v, response %v", s.BuffersRequest(), s.BuffersResponse())
			}
		})
	}
}

// Bodies count against the limit of strings.
func TestBodyLimit(t *testing.T) {
	x := &ableExchange{exchange: newExchange()}
	err := runAt(t, newEngine(t, Env{Limits: Limits{StringBytes: 2999}}), HTTPReqData, x, "pcall(avi.http.get_req_body) avi.vs.log('never')")
	if !errors.Is(err, ErrBudget) || len(x.logs) != 0 {
		t.Errorf("error %v, log %v", err, x.logs)
	}
}

func TestUserID(t *testing.T) {
	e := newEngine(t, Env{})
	x := &ableExchange{exchange: newExchange(), user: "from the host"}
	x.original.SetBasicAuth("basic", "secret")
	for _, tt := range []struct{ before, want string }{
		{"", "from the host"},
		{"avi.http.set_userid('script')", "script"},
		{"", "script"}, // the next run
		{"avi.http.set_userid(nil)", "basic"},
	} {
		x.logs = nil
		if err := runAt(t, e, HTTPReq, x, tt.before+" avi.vs.log(avi.http.get_userid())"); err != nil {
			t.Fatal(err)
		}
		if got := x.logged()[0]; got != tt.want {
			t.Errorf("after %q: %q, want %q", tt.before, got, tt.want)
		}
	}
}

// All bytes survive the functions that take and return strings.
func TestBinarySafety(t *testing.T) {
	_, err := runRequest(t, newEngine(t, Env{Limits: Limits{Time: -1}}), `
		local t = {}
		for i = 0, 255 do t[#t + 1] = string.char(i) end
		local all = table.concat(t)
		assert(#all == 256)
		local u, c = avi.utils, avi.crypto
		local key = string.char(0, 255):rep(16)
		local function hex(s) return (s:gsub(".", function(b) return ("%%%02X"):format(b:byte()) end)) end
		for n = 0, 256 do
			local s = all:sub(1, n)
			assert(u.base64_decode(u.base64_encode(s)) == s, "base64")
			assert(c.decrypt(c.encrypt(s, key), key) == s, "AES")
			assert(c.decrypt(c.encrypt(s, key:sub(1, 24), all:sub(-8), avi.CIPHER_3DES), key:sub(1, 24), all:sub(-8), avi.CIPHER_3DES) == s, "3DES")
			if n % 64 == 0 then
				assert(u.uri_decode(hex(s)) == s, "URI")
				assert(c.open(c.seal(s, key, all), key, all) == s, "seal")
			end
		end
		avi.http.set_reqvar(all, all)
		assert(avi.http.get_reqvar(all) == all)
		assert(#u.md5_hash(all) == 32 and #u.sha1_hash(all) == 40)`)
	if err != nil {
		t.Fatal(err)
	}
}

// The verification value that the algorithm's author publishes: the hash of
// the hashes of 256 keys.
func TestMurmur(t *testing.T) {
	var key, hashes []byte
	for i := range 256 {
		h := murmur2(string(key), uint32(256-i))
		hashes = append(hashes, byte(h), byte(h>>8), byte(h>>16), byte(h>>24))
		key = append(key, byte(i))
	}
	if got := murmur2(string(hashes), 0); got != 0x27864C1E {
		t.Errorf("verification value %#x, want 0x27864c1e", got)
	}
}

// Every suite of crypto/tls has OpenSSL's name and line.
func TestCipherSuites(t *testing.T) {
	known := append(tls.CipherSuites(), tls.InsecureCipherSuites()...)
	for _, s := range known {
		mine, ok := cipherSuites[s.ID]
		if !ok {
			t.Errorf("%s is missing", s.Name)
			continue
		}
		if is13 := slices.Equal(s.SupportedVersions, []uint16{tls.VersionTLS13}); is13 != (mine.version == "TLSv1.3") {
			t.Errorf("%s: version %s", s.Name, mine.version)
		}
		if only12 := slices.Equal(s.SupportedVersions, []uint16{tls.VersionTLS12}); only12 != (mine.version == "TLSv1.2") {
			t.Errorf("%s: version %s", s.Name, mine.version)
		}
	}
	if len(known) != len(cipherSuites) {
		t.Errorf("%d suites, crypto/tls has %d", len(cipherSuites), len(known))
	}
	for id, want := range map[uint16]string{ // as "openssl ciphers -v" of 3.0 prints them
		tls.TLS_CHACHA20_POLY1305_SHA256:            "TLS_CHACHA20_POLY1305_SHA256   TLSv1.3 Kx=any      Au=any   Enc=CHACHA20/POLY1305(256) Mac=AEAD",
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA:    "ECDHE-ECDSA-AES256-SHA         TLSv1   Kx=ECDH     Au=ECDSA Enc=AES(256)               Mac=SHA1",
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256:   "ECDHE-RSA-AES128-GCM-SHA256    TLSv1.2 Kx=ECDH     Au=RSA   Enc=AESGCM(128)            Mac=AEAD",
		tls.TLS_RSA_WITH_AES_128_CBC_SHA:            "AES128-SHA                     SSLv3   Kx=RSA      Au=RSA   Enc=AES(128)               Mac=SHA1",
		tls.TLS_RSA_WITH_AES_128_CBC_SHA256:         "AES128-SHA256                  TLSv1.2 Kx=RSA      Au=RSA   Enc=AES(128)               Mac=SHA256",
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256: "ECDHE-ECDSA-AES128-SHA256      TLSv1.2 Kx=ECDH     Au=ECDSA Enc=AES(128)               Mac=SHA256",
	} {
		if got := cipherSuites[id].String(); got != want {
			t.Errorf("line\n%s, want\n%s", got, want)
		}
	}
}

// A real handshake gives what scripts are told of it.
func TestTLSConnection(t *testing.T) {
	e := newEngine(t, Env{})
	s := mustCompile(t, Chunk{Event: HTTPReq, Source: `avi.vs.log(avi.ssl.protocol(), " ", avi.ssl.cipher(), " ", avi.ssl.server_name(), " ", avi.http.scheme())`})
	logs := make(chan string, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		x := newExchange()
		x.original, x.out = r, r
		if err := e.Run(r.Context(), s, HTTPReq, x); err != nil {
			logs <- err.Error()
			return
		}
		logs <- x.logged()[0]
	}))
	server.TLS = &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384}}
	server.StartTLS()
	defer server.Close()
	client := server.Client()
	client.Transport.(*http.Transport).TLSClientConfig.ServerName = "example.com"
	resp, err := client.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got, want := <-logs, "TLSv1.2 ECDHE-RSA-AES256-GCM-SHA384 example.com https://"; got != want {
		t.Errorf("log %q, want %q", got, want)
	}
}

// Names in certificates cannot pass for several.
func TestCertificateNames(t *testing.T) {
	for _, tt := range []struct{ in, special, want string }{
		{"plain name", "/+", "plain name"},
		{"a/CN=admin", "/+", `a\x2FCN=admin`},
		{"a+CN=admin\\", "/+", `a\x2BCN=admin\x5C`},
		{"tab\tüml", "", `tab\x09\xC3\xBCml`},
	} {
		if got := escapeText(tt.in, tt.special); got != tt.want {
			t.Errorf("%q becomes %q, want %q", tt.in, got, tt.want)
		}
	}
	x := &x509.Certificate{DNSNames: []string{"a, DNS:admin", "b"}}
	if got, want := alternativeNames(x), `DNS:a\x2C\x20DNS:admin, DNS:b`; got != want {
		t.Errorf("alternative names %q, want %q", got, want)
	}
	if got := slashName([]byte("junk")); got != "" {
		t.Errorf("a name of junk: %q", got)
	}
	if got := serialOf(nil) + signatureAlgorithm(x) + extensionsOf(x); got != "00unknown" {
		t.Errorf("empty certificate: %q", got)
	}
}

type fakeGeo struct{}

func (fakeGeo) Locate(addr netip.Addr, attribute string) (string, bool) {
	return addr.String() + attribute, attribute != "none"
}

func (fakeGeo) Reputation(addr netip.Addr) (string, bool) { return addr.String(), addr.Is6() }

// Hosts are asked for normalised addresses.
func TestGeo(t *testing.T) {
	x, err := runRequest(t, newEngine(t, Env{Geo: fakeGeo{}, Reputations: fakeGeo{}}), `
		avi.vs.log(avi.utils.get_geo_from_ip("::ffff:10.0.0.1"), " ", avi.utils.get_geo_from_ip("fe80::1%eth0", 1), " ", avi.utils.get_geo_from_ip("10.0.0.1", "none"))
		avi.vs.log(avi.utils.get_ip_reputation("2001:db8::1"), avi.utils.get_ip_reputation("10.0.0.1"))`)
	if diff := cmp.Diff([]string{"10.0.0.1 fe80::11 nil", "2001:db8::1nil"}, x.logged()); diff != "" || err != nil {
		t.Errorf("error %v, log (-want +got):\n%s", err, diff)
	}
}

func TestMetrics(t *testing.T) {
	e := newEngine(t, Env{Metrics: &Metrics{Max: 2}})
	x, err := runRequest(t, e, `
		local a = avi.vs.analytics
		a.counter("a") a.gauge("b", a.DECR, 2)
		avi.vs.log(pcall(a.counter, "c"))
		a.counter("a", a.INCR, 1.5)
		for i = 1, 3 do pcall(a.gauge, "b", a.INCR, 1e308) end
		avi.vs.log(a.get_counter("b") < 1/0)`)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{`false[string "My Script"]:4: avi.vs.analytics.counter: more than 2 metrics`, "true"}
	if diff := cmp.Diff(want, x.logged()); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]Metric{{"a", false, 2.5}, {"b", true, 1e308}}, e.Metrics()); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
	if m := newEngine(t, Env{}).Metrics(); len(m) != 0 {
		t.Errorf("metrics of a new engine: %v", m)
	}
}

// An enforced rate limit ends the script, but is no failure; the engine
// serves on.
func TestRateLimitEnds(t *testing.T) {
	limiter, err := NewRateLimiter(RateLimit{Count: 1, Period: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	e := newEngine(t, Env{RateProfile: &RateProfile{Limiter: limiter, Action: RateReply, Status: 420, ContentType: "text/html", Body: "no"}})
	for i := range 20 {
		x, err := runRequest(t, e, `
			avi.pool.select("my_pool")
			local function deep() xpcall(function() pcall(avi.vs.rate_limit, avi.RL_CUSTOM_STRING, "k") end, function() avi.vs.log("handler") end) end
			pcall(deep)
			avi.vs.log("on")`)
		if err != nil || x.selected != "my_pool" {
			t.Fatalf("run %d: error %v, selected %q", i, err, x.selected)
		}
		if i == 0 {
			if x.reply != nil || len(x.logs) != 1 {
				t.Errorf("within the limit: %v %v", x.reply, x.logs)
			}
			continue
		}
		want := &reply{420, http.Header{"Content-Type": {"text/html"}}, []byte("no")}
		if diff := cmp.Diff(want, x.reply, cmp.AllowUnexported(reply{})); diff != "" || len(x.logs) != 0 {
			t.Errorf("run %d: log %v, reply (-want +got):\n%s", i, x.logs, diff)
		}
	}
	if st := e.Stats(); st.Failures != 0 || st.Runs != 20 {
		t.Errorf("stats %+v", st)
	}
}

// The state of a script that was unwound serves on, and what closures of that
// script kept is not shared with the next.
func TestRateLimitSettles(t *testing.T) {
	limiter := newLimiter(t, RateLimit{Count: 1, Period: time.Hour})
	limiter.Exceed("k", 1)
	e := newEngine(t, Env{RateProfile: &RateProfile{Limiter: limiter, Action: RateClose}})
	first := mustCompile(t,
		Chunk{Event: HTTPReq, Source: `
			local a, b, c = "first", "first", "first"
			read = function() return tostring(a) .. tostring(b) .. tostring(c) end
			write = function(v) a, b, c = v, v, v end
			pcall(function() avi.vs.rate_limit(avi.RL_CUSTOM_STRING, "k") end)`},
		Chunk{Event: HTTPResp, Source: `avi.vs.log(read()) write("stolen") avi.vs.log(read())`})
	second := mustCompile(t,
		Chunk{Event: HTTPReq, Source: `
			local a, b, c = "second", "second", "second"
			get = function() return a .. b .. c end
			avi.vs.log(get())`},
		Chunk{Event: HTTPResp, Source: `avi.vs.log(get())`})
	x, y := newExchange(), newExchange()
	x.respond(200, "10.1.1.1:80")
	y.respond(200, "10.1.1.1:80")
	for _, step := range []struct {
		s  *Script
		ev Event
		x  *exchange
	}{{first, HTTPReq, x}, {second, HTTPReq, y}, {first, HTTPResp, x}, {second, HTTPResp, y}} {
		if err := e.Run(t.Context(), step.s, step.ev, step.x); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Join(x.logged(), " "); strings.Contains(got, "second") || !strings.HasSuffix(got, " stolenstolenstolen") {
		t.Errorf("the first transaction saw %q", got)
	}
	if diff := cmp.Diff([]string{"secondsecondsecond", "secondsecondsecond"}, y.logged()); diff != "" {
		t.Errorf("the second transaction (-want +got):\n%s", diff)
	}
	if st := e.Stats(); !testrace.Enabled && (st.Created != 1 || st.Discarded != 0) {
		t.Errorf("stats %+v: the state was not used again", st)
	}
}

func TestEnvFaults(t *testing.T) {
	_, err := NewEngine(Env{
		RateLimiters: map[string]*RateLimiter{"b": nil, "a": nil},
		RateProfile:  &RateProfile{Action: RateRedirect, Status: 200, ContentType: "a\r\nb"},
	})
	want := `rateLimiters["a"]: missing
rateLimiters["b"]: missing
rateProfile.limiter: missing
rateProfile.status: 200: not the status of a redirect
rateProfile.contentType: "a\r\nb": has a control character
rateProfile.location: missing`
	if err == nil || err.Error() != want {
		t.Errorf("error %v\nwant %s", err, want)
	}
	for _, p := range []RateProfile{{Action: 9}, {Action: RateReply, Status: 99}} {
		if _, err := NewEngine(Env{RateProfile: &p}); err == nil {
			t.Errorf("profile %+v was accepted", p)
		}
	}
	if got := RateReset.String() + RateAction(9).String(); got != "RL_ACTION_RESET_CONNinvalid" {
		t.Errorf("actions %s", got)
	}
}

// wire sends a request through net/http's own writer and parser.
func wire(t *testing.T, r *http.Request) *http.Request {
	t.Helper()
	var b strings.Builder
	if err := r.Write(&b); err != nil {
		t.Skip(err) // net/http refuses to send it
	}
	read := bufio.NewReader(strings.NewReader(b.String()))
	got, err := http.ReadRequest(read)
	if err != nil {
		t.Fatalf("%v\n%q", err, b.String())
	}
	if rest, _ := read.Peek(1); len(rest) > 0 {
		t.Fatalf("bytes behind the request:\n%q", b.String())
	}
	return got
}

// quoteLua spells any bytes as a string of Lua.
func quoteLua(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range []byte(s) {
		fmt.Fprintf(&b, `\%03d`, c)
	}
	b.WriteByte('"')
	return b.String()
}

func compileFuzz(t *testing.T, ev Event, format string, args ...string) *Script {
	quoted := make([]any, len(args))
	for i, a := range args {
		quoted[i] = quoteLua(a)
	}
	s, err := Compile("fuzz", Chunk{Event: ev, Source: fmt.Sprintf(format, quoted...)})
	if err != nil {
		t.Skip(err) // too long
	}
	return s
}

// inOneLine is a value in one line, with one blank for several.
func inOneLine(value string) string {
	return strings.Join(strings.FieldsFunc(value, func(c rune) bool { return strings.ContainsRune(" \t\r\n", c) }), " ")
}

// A header that a script sets arrives as that one header, and nothing else.
func FuzzHeaderSet(f *testing.F) {
	f.Add("X-A", "plain")
	f.Add("X-A", "a\r\nX-B: b")           // a second header
	f.Add("X-A\r\nX-B", "b")              // in the name
	f.Add(" Host ", "evil")               // which is kept apart
	f.Add("Content-Length", "0")          // framing
	f.Add("transfer-encoding", "chunked") // framing
	f.Add("X-A", "folded\r\n value")      // one value in two lines
	f.Add("X-A", "\n 0")
	f.Add("X-A", " \tblank\x00\x7f\xff\x0b") // what parsers trim or refuse
	e := newEngine(f, Env{Limits: Limits{Time: -1}})
	f.Fuzz(func(t *testing.T, name, value string) {
		s := compileFuzz(t, HTTPReq, "avi.http.replace_header(%s, %s)", name, value)
		x := newExchange()
		before := x.out.Header.Clone()
		if e.Run(t.Context(), s, HTTPReq, x) != nil {
			return
		}
		got := wire(t, x.out).Header
		key := http.CanonicalHeaderKey(strings.TrimSpace(name))
		delete(before, key)
		delete(got, "User-Agent") // net/http's own
		if strings.TrimSpace(value) != "" && key != "Host" && key != "User-Agent" && inOneLine(got.Get(key)) != inOneLine(value) {
			t.Errorf("%s arrives as %q, not %q", key, got.Get(key), value)
		}
		delete(got, key)
		if diff := cmp.Diff(before, got); diff != "" {
			t.Errorf("other headers (-want +got):\n%s", diff)
		}
	})
}

// A redirect has one Location, and no other header, whatever the URI.
func FuzzRedirect(f *testing.F) {
	f.Add("https://example.com/a?b=c")
	f.Add("/a\r\nSet-Cookie: x=y")  // a second header
	f.Add("/a\r\n\r\n<script>")     // a body
	f.Add("//\x00 \x7f\xff\u0085é") // what may not stand in a header
	e := newEngine(f, Env{Limits: Limits{Time: -1}})
	f.Fuzz(func(t *testing.T, uri string) {
		x := newExchange()
		if err := e.Run(t.Context(), compileFuzz(t, HTTPReq, "avi.http.redirect(%s)", uri), HTTPReq, x); err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		resp := &http.Response{StatusCode: x.reply.status, ProtoMajor: 1, ProtoMinor: 1, Header: x.reply.header}
		if err := resp.Write(&b); err != nil {
			t.Fatal(err)
		}
		got, err := http.ReadResponse(bufio.NewReader(strings.NewReader(b.String())), nil)
		if err != nil {
			t.Fatalf("%v\n%q", err, b.String())
		}
		want := x.reply.header.Get("Location")
		got.Header.Del("Content-Length")
		got.Header.Del("Connection")
		if len(got.Header) != 1 || got.StatusCode != 302 || got.Header.Get("Location") != want || strings.ContainsFunc(want, func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Errorf("%q gives %v", uri, got.Header)
		}
	})
}

// A cookie that a script adds is one cookie to whoever parses it, or none if
// its value is not one; it never adds or changes another.
func FuzzCookie(f *testing.F) {
	f.Add("a", "1", "/")
	f.Add("sid", "x; theme=light", "/") // a second pair
	f.Add("a", "1", "/; Domain=evil")   // a second attribute
	f.Add("a\x00", "1", "")             // in the name
	f.Add("theme", "dark2", "/")        // a name that is there
	f.Add("a", "1", "\"/")              // a path that net/http does not take for one
	f.Add("a", "\"q\" \x01\x7f\xff", "/\xff")
	e := newEngine(f, Env{Limits: Limits{Time: -1}})
	f.Fuzz(func(t *testing.T, name, value, path string) {
		x := newExchange()
		x.respond(200, "10.1.1.1:80")
		if e.Run(t.Context(), compileFuzz(t, HTTPReq, "avi.http.add_cookie(%s, %s)", name, value), HTTPReq, x) == nil {
			cookies := wire(t, x.out).Cookies()
			if len(cookies) < 2 || len(cookies) > 3 || cookies[0].String() != "sid=abc" || cookies[1].String() != "theme=dark" {
				t.Fatalf("request has %v", cookies)
			}
			if len(cookies) == 3 && cookies[2].Name != name {
				t.Fatalf("request has %v", cookies)
			}
		}
		if e.Run(t.Context(), compileFuzz(t, HTTPResp, "avi.http.add_cookie(%s, %s, %s)", name, value, path), HTTPResp, x) != nil {
			return
		}
		resp := http.Response{Header: x.header}
		for i, c := range resp.Cookies() {
			unparsed := slices.DeleteFunc(c.Unparsed, func(s string) bool { return strings.HasPrefix(s, "path=") })
			if i > 0 || c.Name != name || c.Domain != "" || c.HttpOnly || c.Secure || c.MaxAge != 0 || len(unparsed) > 0 {
				t.Fatalf("response has %#v", c)
			}
		}
	})
}
