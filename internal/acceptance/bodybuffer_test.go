package acceptance_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/lbpool"
)

// bodyOf is a body whose length is declared, or not.
func bodyOf(text string, hide bool) io.Reader {
	if hide {
		return io.MultiReader(strings.NewReader(text))
	}
	return strings.NewReader(text)
}

// Published filters have code for HTTP_REQ_DATA alone: it never ran, and nobody
// said so. And a body longer than a script asked for was always refused.
func TestRequestBodyBuffer(t *testing.T) {
	t.Parallel()
	const show = "-- HTTP_REQ_DATA\nlocal b, whole = avi.http.get_req_body() avi.vs.log(b and #b or 0, ' ', whole)\n"
	asks := func(arguments string) string {
		return show + "-- HTTP_REQ\navi.http.set_request_body_buffer_size(" + arguments + ")"
	}
	head, refuse := limpet.BodyBuffer{Bytes: 1024, Head: true}, limpet.BodyBuffer{Bytes: 1024}
	type want struct {
		seen   string // by the script; empty if it did not run
		status int
	}
	for _, tt := range []struct {
		name   string
		config limpet.BodyBuffer
		script string
		length int
		want   want
	}{
		{"head, longer", head, show, 3000, want{"1024 false", 200}},
		{"head, much longer", head, show, 1 << 20, want{"1024 false", 200}},
		{"head, shorter", head, show, 1023, want{"1023 true", 200}},
		{"head, no body", head, show, 0, want{"", 200}},
		{"refuse, longer", refuse, show, 3000, want{"", 413}},
		{"refuse, fits", refuse, show, 1024, want{"1024 true", 200}},
		{"refuse, one byte more", refuse, show, 1025, want{"", 413}},
		{"script asks for the head", limpet.BodyBuffer{}, asks(`1, "head"`), 3000, want{"1024 false", 200}},
		{"script asks", limpet.BodyBuffer{}, asks(`1`), 3000, want{"", 413}},
		{"script asks for more", refuse, asks(`4`), 3000, want{"3000 true", 200}},
		{"script asks, the service says head", limpet.BodyBuffer{Head: true}, asks(`1`), 3000, want{"1024 false", 200}},
		{"script refuses", head, asks(`1, "refuse"`), 3000, want{"", 413}},
		{"script switches off", refuse, asks(`0`), 3000, want{"", 200}},
		{"script switches off, head", head, asks(`0`), 3000, want{"", 200}},
	} {
		for _, protocol := range []protocol{http1, http2TLS, h2c} {
			for _, hide := range []bool{false, true} {
				for _, wrapped := range []bool{false, true} {
					t.Run(fmt.Sprintf("%s/%s/chunked %v/wrapped %v", tt.name, protocol, hide, wrapped), func(t *testing.T) {
						var got []byte
						server := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { got, _ = io.ReadAll(r.Body) })
						records := make(chan limpet.Record, 1)
						vs, err := limpet.New(limpet.Config{
							Scripting: limpet.Scripting{RequestBody: tt.config}, Scripts: []limpet.Script{compile(t, "s", tt.script)}, OnComplete: func(r limpet.Record) { records <- r },
							Pools: []*lbpool.Pool{newPool(t, lbpool.Config{Name: "p", Servers: []lbpool.ServerConfig{{Address: startServer(t, "127.0.0.1:0", server)}}})},
						})
						if err != nil {
							t.Fatal(err)
						}
						t.Cleanup(vs.CloseIdleConnections)
						handler := http.Handler(vs)
						if wrapped {
							handler = vs.Wrap(server)
						}
						s := startSite(t, protocol, listen(t, "127.0.0.1:0"), handler)
						body := strings.Repeat("x", tt.length)
						req, err := http.NewRequest("POST", s.URL+"/", bodyOf(body, hide))
						if err != nil {
							t.Fatal(err)
						}
						if tt.length == 0 {
							req.Body, req.ContentLength = http.NoBody, 0
						}
						res, err := s.client(t).Do(req)
						if err != nil {
							t.Fatal(err)
						}
						res.Body.Close()
						record := testwait.Receive(t, records, "the record")
						if res.StatusCode != tt.want.status || strings.Join(texts(record.Log), "|") != tt.want.seen {
							t.Errorf("status %d, script saw %q, want %v", res.StatusCode, texts(record.Log), tt.want)
						}
						switch {
						case res.StatusCode == 200 && string(got) != body:
							t.Errorf("server got %d bytes, want %d", len(got), len(body))
						case res.StatusCode != 200 && got != nil:
							t.Errorf("server got %d bytes of a body that was refused", len(got))
						}
						stats := vs.Stats()
						refused, heads := stats.RefusedBodies == 1, stats.HeadBodies == 1
						if refused != (tt.want.status == 413) || heads != strings.HasSuffix(tt.want.seen, "false") {
							t.Errorf("%d bodies refused, %d shown in part", stats.RefusedBodies, stats.HeadBodies)
						}
					})
				}
			}
		}
	}
}

// A script sees the beginning as soon as it is there, and the rest streams: a
// client that waits for an answer before it goes on is not kept waiting.
func TestRequestBodyHeadStreams(t *testing.T) {
	for _, protocol := range []protocol{http1, h2c} {
		t.Run(string(protocol), func(t *testing.T) {
			first := make(chan string, 1)
			server := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				begin := make([]byte, 1024)
				if _, err := io.ReadFull(r.Body, begin); err != nil {
					t.Error(err)
				}
				first <- string(begin[:4])
				rest, err := io.ReadAll(r.Body)
				fmt.Fprint(w, string(rest), err)
			})
			vs, err := limpet.New(limpet.Config{
				Scripting: limpet.Scripting{RequestBody: limpet.BodyBuffer{Bytes: 1024, Head: true}},
				Scripts:   []limpet.Script{compile(t, "s", "-- HTTP_REQ_DATA\navi.http.add_header('X-Seen', #avi.http.get_req_body())")},
				Pools:     []*lbpool.Pool{newPool(t, lbpool.Config{Name: "p", Servers: []lbpool.ServerConfig{{Address: startServer(t, "127.0.0.1:0", server)}}})},
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(vs.CloseIdleConnections)
			s := startSite(t, protocol, listen(t, "127.0.0.1:0"), vs)
			pr, pw := io.Pipe()
			go func() {
				_, _ = pw.Write(bytes.Repeat([]byte("head"), 256))
				<-first // which comes only if nobody waits for more
				_, _ = pw.Write([]byte("tail"))
				pw.Close()
			}()
			res, err := s.client(t).Post(s.URL+"/", "text/plain", pr)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if body, _ := io.ReadAll(res.Body); string(body) != "tail<nil>" {
				t.Errorf("server got %q behind the head", body)
			}
		})
	}
}

func TestResponseBodyBuffer(t *testing.T) {
	const show = "-- HTTP_RESP_DATA\navi.vs.log(#(avi.http.get_response_body(4) or ''))\n"
	for _, tt := range []struct {
		name, script, method string
		length               int
		seen                 string
	}{
		{"longer", show, "GET", 3000, "1024"},
		{"shorter", show, "GET", 100, "100"},
		{"no body", show, "GET", 0, ""},
		{"no body can come", show, "HEAD", 3000, ""},
		{"a script asks for more", show + "-- HTTP_RESP\navi.http.set_response_body_buffer_size(2)", "GET", 3000, "2048"},
		{"no script", "-- HTTP_REQ\nx = 1", "GET", 3000, ""},
	} {
		for _, protocol := range []protocol{http1, http2TLS} {
			t.Run(tt.name+"/"+string(protocol), func(t *testing.T) {
				page := strings.Repeat("x", tt.length)
				records := make(chan limpet.Record, 1)
				vs, err := limpet.New(limpet.Config{
					Scripting: limpet.Scripting{ResponseBody: limpet.BodyBuffer{Bytes: 1024}}, Scripts: []limpet.Script{compile(t, "s", tt.script)},
					OnComplete: func(r limpet.Record) { records <- r },
				})
				if err != nil {
					t.Fatal(err)
				}
				s := startSite(t, protocol, listen(t, "127.0.0.1:0"), vs.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.Method != "HEAD" {
						_, _ = io.WriteString(w, page)
					}
				})))
				req, _ := http.NewRequest(tt.method, s.URL+"/", nil)
				res, err := s.client(t).Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				body, _ := io.ReadAll(res.Body)
				if record := testwait.Receive(t, records, "the record"); strings.Join(texts(record.Log), "|") != tt.seen {
					t.Errorf("script saw %q, want %q", texts(record.Log), tt.seen)
				}
				if tt.method == "GET" && string(body) != page {
					t.Errorf("client got %d bytes of %d", len(body), len(page))
				}
			})
		}
	}
}

// A script for a data event that can never run was accepted.
func TestDataEventNeverRuns(t *testing.T) {
	const request = `scripts[0]: script "s": HTTP_REQ_DATA never runs: set requestBody.bytes, or call avi.http.set_request_body_buffer_size in HTTP_REQ`
	const response = `scripts[0]: script "s": HTTP_RESP_DATA never runs: set responseBody.bytes, or call avi.http.set_response_body_buffer_size in HTTP_RESP`
	for _, tt := range []struct {
		name   string
		script string
		other  string
		config limpet.Config
		want   []string
	}{
		{"request", "-- HTTP_REQ_DATA\nx = 1", "", limpet.Config{}, []string{request}},
		{"both", "-- HTTP_REQ_DATA\nx = 1\n-- HTTP_RESP_DATA\nx = 1", "", limpet.Config{}, []string{request, response}},
		{"buffer of the other kind", "-- HTTP_REQ_DATA\nx = 1", "", limpet.Config{Scripting: limpet.Scripting{ResponseBody: limpet.BodyBuffer{Bytes: 1}}}, []string{request}},
		{"the service buffers", "-- HTTP_REQ_DATA\nx = 1", "", limpet.Config{Scripting: limpet.Scripting{RequestBody: limpet.BodyBuffer{Bytes: 1}}}, nil},
		{"another script asks", "-- HTTP_RESP_DATA\nx = 1", "-- HTTP_RESP\navi.http.set_response_body_buffer_size(1)", limpet.Config{}, nil},
		{"bytes", "-- HTTP_REQ\nx = 1", "", limpet.Config{Scripting: limpet.Scripting{RequestBody: limpet.BodyBuffer{Bytes: -1}, ResponseBody: limpet.BodyBuffer{Bytes: 32<<20 + 1}}},
			[]string{"requestBody.bytes: -1: negative", "responseBody.bytes: 33554433: more than 32MiB"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := tt.config
			cfg.Scripts = []limpet.Script{compile(t, "s", tt.script)}
			if tt.other != "" {
				cfg.Scripts = append(cfg.Scripts, compile(t, "other", tt.other))
			}
			_, err := limpet.New(cfg)
			var got []string
			if err != nil {
				got = strings.Split(err.Error(), "\n")
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
			vs, err := limpet.New(limpet.Config{})
			if err != nil {
				t.Fatal(err)
			}
			if err := vs.Update(cfg); (err != nil) != (tt.want != nil) {
				t.Errorf("Update: %v", err)
			}
		})
	}
}
