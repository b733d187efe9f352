package acceptance_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/lbpool"
)

// basic is an Authenticator that knows one user.
type basic struct{}

func (basic) Challenge() string { return `Basic realm="test"` }

func (basic) Authenticate(r *http.Request) (limpet.Session, error) {
	if user, password, _ := r.BasicAuth(); user == "anna" && password == "secret" {
		return limpet.Session{User: "Anna"}, nil
	}
	return limpet.Session{}, errors.New("wrong password")
}

// serveOne serves one request by a virtual service with one script in front
// of one server, and returns the answer and the record.
func serveOne(t *testing.T, listing string, server http.Handler, edit func(*limpet.Config), r *http.Request) (*http.Response, string, limpet.Record) {
	t.Helper()
	var record limpet.Record
	cfg := limpet.Config{
		Scripts:    []limpet.Script{compile(t, "Events", listing)},
		OnComplete: func(r limpet.Record) { record = r },
	}
	if server != nil {
		addr := startServer(t, "127.0.0.1:0", server)
		cfg.Pools = []*lbpool.Pool{newPool(t, lbpool.Config{Name: "my_pool", Servers: []lbpool.ServerConfig{{Address: addr}}})}
	}
	if edit != nil {
		edit(&cfg)
	}
	vs, err := limpet.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer vs.CloseIdleConnections()
	w := httptest.NewRecorder()
	vs.ServeHTTP(w, r)
	res := w.Result()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body), record
}

// texts are log lines without the place in front.
func texts(lines []string) []string {
	var out []string
	for _, l := range lines {
		_, text, _ := strings.Cut(l, ": ")
		out = append(out, text)
	}
	return out
}

var echo = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	fmt.Fprintf(w, "%s %d %q %s", r.Method, r.ContentLength, body, r.Header.Get("X-Script"))
})

// Every event of a transaction, in order.
func TestEventOrder(t *testing.T) {
	listing := `
-- HTTP_AUTH
avi.vs.log("auth ", avi.http.get_userid())
-- HTTP_POST_AUTH
avi.vs.log("post auth ", avi.http.get_userid())
-- HTTP_REQ
avi.vs.log("req")
avi.http.set_request_body_buffer_size(1)
-- HTTP_REQ_DATA
avi.vs.log("req data ", (avi.http.get_req_body()))
-- LB_DONE
avi.vs.log("lb done ", avi.pool.server_ip())
avi.http.add_header("X-Script", "lb")
-- HTTP_RESP
avi.vs.log("resp ", avi.http.status())
avi.http.set_response_body_buffer_size(1)
-- HTTP_RESP_DATA
avi.vs.log("resp data ", avi.http.get_response_body(1))
-- HTTP_LB_FAILED
avi.vs.log("never")
-- RESP_FAILED
avi.vs.log("never")
`
	r := httptest.NewRequest("POST", "/", strings.NewReader("hello"))
	r.SetBasicAuth("anna", "secret")
	res, body, record := serveOne(t, listing, echo, func(c *limpet.Config) { c.Authenticator = basic{} }, r)
	want := []string{"auth anna", "post auth Anna", "req", "req data hello", "lb done 127.0.0.1", "resp 200", `resp data POST 5 "hello" lb`}
	if diff := cmp.Diff(want, texts(record.Log)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if res.StatusCode != 200 || body != `POST 5 "hello" lb` {
		t.Errorf("client got %d %s", res.StatusCode, body)
	}
	if record.Bytes != int64(len(body)) {
		t.Errorf("record has %d bytes, want %d", record.Bytes, len(body))
	}
}

func TestAuthenticator(t *testing.T) {
	r := httptest.NewRequest("GET", "/", nil)
	r.SetBasicAuth("anna", "wrong")
	res, _, record := serveOne(t, "-- HTTP_REQ\navi.vs.log('never')", echo, func(c *limpet.Config) { c.Authenticator = basic{} }, r)
	if res.StatusCode != 401 || res.Header.Get("WWW-Authenticate") != `Basic realm="test"` {
		t.Errorf("client got %d %v", res.StatusCode, res.Header)
	}
	if len(record.Log) != 0 || record.Error == nil || !strings.Contains(record.Error.Error(), "wrong password") {
		t.Errorf("record: log %v, error %v", record.Log, record.Error)
	}
}

func TestRequestBody(t *testing.T) {
	listing := "-- HTTP_REQ\navi.http.set_request_body_buffer_size(1)\n-- HTTP_REQ_DATA\n" +
		"local b = avi.http.get_req_body() avi.vs.log(b and #b) if b and b:contains('evil') then avi.http.response(403) end"
	for _, tt := range []struct {
		name, body string
		status     int
		log        []string
	}{
		{"none", "", 200, []string{"nil"}},
		{"full", strings.Repeat("x", 1024), 200, []string{"1024"}},
		{"too long", strings.Repeat("x", 1025), 413, nil},
		{"refused", "evil", 403, []string{"4"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			// Without a length, as a chunked request has it.
			r := httptest.NewRequest("POST", "/", io.MultiReader(strings.NewReader(tt.body)))
			res, body, record := serveOne(t, listing, echo, nil, r)
			if diff := cmp.Diff(tt.log, texts(record.Log)); diff != "" || res.StatusCode != tt.status {
				t.Errorf("status %d, want %d; log (-want +got):\n%s", res.StatusCode, tt.status, diff)
			}
			if want := fmt.Sprintf("POST %d %q ", len(tt.body), tt.body); tt.status == 200 && body != want {
				t.Errorf("server got %.40s, want %.40s", body, want)
			}
		})
	}
}

// A body that was buffered reaches the next server if the first cannot be
// connected to.
func TestRequestBodyReselect(t *testing.T) {
	live := startServer(t, "127.0.0.1:0", echo)
	r := httptest.NewRequest("POST", "/", strings.NewReader("hello"))
	res, body, record := serveOne(t, "-- HTTP_REQ\navi.http.set_request_body_buffer_size(1)\n-- LB_DONE\navi.vs.log('chosen')", nil, func(c *limpet.Config) {
		c.Pools = []*lbpool.Pool{newPool(t, lbpool.Config{Name: "p", Algorithm: lbpool.RoundRobin(),
			Servers: []lbpool.ServerConfig{{Address: deadAddr(t, "127.0.0.1:0")}, {Address: live}}})}
	}, r)
	if res.StatusCode != 200 || body != `POST 5 "hello" ` || record.Tried != 2 {
		t.Errorf("got %d %s after %d servers", res.StatusCode, body, record.Tried)
	}
	if diff := cmp.Diff([]string{"chosen"}, texts(record.Log)); diff != "" {
		t.Errorf("LB_DONE (-want +got):\n%s", diff)
	}
}

func TestResponseBody(t *testing.T) {
	page := strings.Repeat("x", 3000)
	server := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Server", "1")
		w.WriteHeader(201)
		for i := range 3 {
			io.WriteString(w, page[i*1000:(i+1)*1000])
			w.(http.Flusher).Flush()
		}
	})
	hold := "-- HTTP_RESP\navi.http.set_response_body_buffer_size(%d)\n-- HTTP_RESP_DATA\navi.vs.log(#avi.http.get_response_body(%d))\n"
	for _, tt := range []struct {
		name, listing, body string
		status              int
		log                 []string
	}{
		{"whole", fmt.Sprintf(hold, 8, 8), page, 201, []string{"3000"}},
		{"beginning", fmt.Sprintf(hold, 1, 8), page, 201, []string{"1024"}},
		{"part", fmt.Sprintf(hold, 2, 1), page, 201, []string{"1024"}},
		{"replaced", fmt.Sprintf(hold, 8, 8) + "avi.http.response(418, {}, 'tea')", "tea", 418, []string{"3000"}},
		{"failed", fmt.Sprintf(hold, 8, 8) + "error('no')", "Internal Server Error\n", 500, []string{"3000"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			res, body, record := serveOne(t, tt.listing, server, nil, httptest.NewRequest("GET", "/", nil))
			if diff := cmp.Diff(tt.log, texts(record.Log)); diff != "" || res.StatusCode != tt.status || body != tt.body {
				t.Errorf("client got %d and %d bytes; log (-want +got):\n%s", res.StatusCode, len(body), diff)
			}
			if (res.Header.Get("X-Server") != "") != (tt.status == 201) {
				t.Errorf("header %v", res.Header)
			}
		})
	}
	t.Run("no body", func(t *testing.T) {
		empty := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {})
		res, _, record := serveOne(t, "-- HTTP_RESP\navi.http.set_response_body_buffer_size(1)\n-- HTTP_RESP_DATA\navi.vs.log('data')", empty, nil, httptest.NewRequest("HEAD", "/", nil))
		if res.StatusCode != 200 || len(record.Log) != 1 {
			t.Errorf("status %d, log %v", res.StatusCode, record.Log)
		}
	})
}

func TestFailureEvents(t *testing.T) {
	junk := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			io.WriteString(conn, "junk\r\n\r\n")
			conn.Close()
		}
	})
	slow := make(chan struct{})
	defer close(slow)
	silent := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-slow:
		case <-r.Context().Done():
		}
	})
	down := func(t *testing.T) func(*limpet.Config) {
		return func(c *limpet.Config) {
			p := newPool(t, lbpool.Config{Name: "p", Servers: []lbpool.ServerConfig{{Address: "127.0.0.1:9", Disabled: true}}})
			c.Pools = []*lbpool.Pool{p}
		}
	}
	const answer = "-- HTTP_LB_FAILED\navi.vs.log('lb ', avi.http.internal_status())\n-- RESP_FAILED\navi.vs.log('resp ', avi.http.internal_status())\n" +
		"avi.http.redirect('http://sorry.example/')\n-- HTTP_RESP\navi.vs.log('never')\n-- HTTP_REQ\n"
	for _, tt := range []struct {
		name, request string
		server        http.Handler
		edit          func(*limpet.Config)
		status        int
		log           []string
	}{
		{"no server", "", nil, down(t), 503, []string{"lb 503"}},
		{"junk", "", junk, nil, 302, []string{"resp 502"}},
		{"timeout", "avi.http.set_server_timeout(50)", silent, nil, 302, []string{"resp 504"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			res, _, record := serveOne(t, answer+tt.request, tt.server, tt.edit, httptest.NewRequest("GET", "/", nil))
			if diff := cmp.Diff(tt.log, texts(record.Log)); diff != "" || res.StatusCode != tt.status {
				t.Errorf("status %d, want %d; log (-want +got):\n%s", res.StatusCode, tt.status, diff)
			}
		})
	}
}

// A script that answers when a server has been chosen keeps the request from
// it, and is not blamed on it.
func TestLBDoneAnswers(t *testing.T) {
	server := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the server was asked") })
	res, body, record := serveOne(t, "-- LB_DONE\navi.http.response(429, {}, 'later')", server, nil,
		httptest.NewRequest("POST", "/", bytes.NewReader(make([]byte, 100))))
	if res.StatusCode != 429 || body != "later" || record.Error != nil {
		t.Errorf("got %d %s, error %v", res.StatusCode, body, record.Error)
	}
}

func TestBusy(t *testing.T) {
	blocked, release := make(chan struct{}), make(chan struct{})
	vs, err := limpet.New(limpet.Config{
		Scripts:   []limpet.Script{compile(t, "Busy", "-- HTTP_REQ\navi.utils.get_geo_from_ip('192.0.2.1')")},
		Scripting: limpet.Scripting{Limits: datascript.Limits{HeldBytes: 1, Wait: time.Nanosecond}},
		Geo:       blockingGeo{blocked, release},
	})
	if err != nil {
		t.Fatal(err)
	}
	h := vs.Wrap(http.NotFoundHandler())
	first := httptest.NewRecorder()
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.ServeHTTP(first, httptest.NewRequest("GET", "/", nil))
	}()
	<-blocked
	second := httptest.NewRecorder()
	h.ServeHTTP(second, httptest.NewRequest("GET", "/", nil))
	close(release)
	<-done
	if second.Code != 503 || second.Header().Get("Retry-After") != "1" || first.Code != 404 {
		t.Errorf("got %d %v, and %d for the first", second.Code, second.Header(), first.Code)
	}
}

// blockingGeo keeps a script waiting.
type blockingGeo struct{ blocked, release chan struct{} }

func (g blockingGeo) Locate(netip.Addr, string) (string, bool) {
	close(g.blocked)
	<-g.release
	return "", false
}
