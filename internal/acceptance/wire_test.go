package acceptance_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"slices"
	"strings"
	"testing"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/lbpool"
)

// wire is a virtual service between a client and a server whose bytes the test
// sees: those of the request as the server got them, and those of the
// response as the client did.
type wire struct {
	*testing.T
	vs    *limpet.VirtualService
	site  *site
	recs  *records
	pool  *lbpool.Pool
	asked chan string

	client *http.Transport // of HTTP/2
}

func newWire(t *testing.T, p protocol) *wire {
	t.Helper()
	w := &wire{T: t, recs: newRecords(), asked: make(chan string, 10)}
	w.pool = poolFor(t, func(rw http.ResponseWriter, r *http.Request) {
		dump, err := httputil.DumpRequest(r, false)
		if err != nil {
			t.Error(err)
		}
		w.asked <- string(dump)
		io.WriteString(rw, "from the server")
	})
	w.vs, w.site = serve(t, p, limpet.Config{})
	w.client = w.site.transport(t)
	return w
}

// run sends a request through a script, and returns the head of the answer
// with its status, and what the server was asked, if it was.
func (w *wire) run(script limpet.Script) (status int, head, asked string) {
	w.Helper()
	if err := w.vs.Update(limpet.Config{Pools: []*lbpool.Pool{w.pool}, Scripts: []limpet.Script{script}, OnComplete: w.recs.add}); err != nil {
		w.Fatal(err)
	}
	if w.site.protocol == http1 {
		c := w.site.dial(w, "")
		defer c.Close()
		all, err := io.ReadAll(send(w, c, "GET /a?b=c HTTP/1.1\nHost: example.com\nCookie: sid=1; other=2\nConnection: close\n\n"))
		if err != nil {
			w.Fatal(err)
		}
		var body string
		head, body, _ = strings.Cut(string(all), "\r\n\r\n")
		if strings.Contains(body, "HTTP/1.1") {
			w.Errorf("a second response:\n%s", all)
		}
		if _, err := fmt.Sscanf(head, "HTTP/1.1 %d", &status); err != nil {
			w.Fatalf("%v: %q", err, all)
		}
	} else {
		r := newRequest(w, "GET", w.site.URL+"/a?b=c", nil)
		r.Header.Set("Cookie", "sid=1; other=2")
		res, err := w.client.RoundTrip(r) // as a client would object to some locations
		if err != nil {
			w.Fatal(err)
		}
		defer res.Body.Close()
		_, _ = io.Copy(io.Discard, res.Body)
		var b strings.Builder
		if err := res.Header.Write(&b); err != nil { // which hides nothing that HTTP/2 can carry
			w.Fatal(err)
		}
		status, head = res.StatusCode, b.String()
	}
	select {
	case asked = <-w.asked:
	default:
	}
	if len(w.asked) > 0 {
		w.Errorf("the server was asked twice, then %q", <-w.asked)
	}
	return status, head, asked
}

// fieldNames are the names of the fields in a message's head, sorted.
func fieldNames(head string) []string {
	var names []string
	for line := range strings.SplitSeq(head, "\n") {
		if name, _, ok := strings.Cut(line, ":"); ok && !strings.Contains(name, " ") {
			names = append(names, strings.ToLower(name))
		}
	}
	slices.Sort(names)
	return names
}

// luaString spells any bytes in Lua.
func luaString(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		fmt.Fprintf(&b, `\%03d`, c)
	}
	return `"` + b.String() + `"`
}

// What a script writes never ends the line it is in: a control character
// fails the script, or is encoded where there is an encoding for it.
func TestControlCharacters(t *testing.T) {
	t.Parallel()
	payloads := []string{
		"a\r\nX-Evil: 1", "a\nX-Evil: 1", "a\rX-Evil: 1", "a\r\n\r\nHTTP/1.1 200 OK\r\nX-Evil: 1\r\n\r\n", "a\x00b",
		"\r\nX-Evil: 1", "a\x0bX-Evil: 1", "a\x7f", "a\x01", "a\r", "a\n", "\x00",
	}
	writers := []struct {
		script  string // V stands for the payload
		encodes bool   // instead of failing
	}{
		{"-- HTTP_REQ\navi.http.add_header('X-A', V)", false},
		{"-- HTTP_REQ\navi.http.add_header(V, 'a')", false},
		{"-- HTTP_REQ\navi.http.replace_header('X-A', V)", false},
		{"-- HTTP_REQ\navi.http.replace_header(V, 'a')", false},
		{"-- HTTP_REQ\navi.http.replace_header('Host', V)", false},
		{"-- HTTP_REQ\navi.http.remove_header(V)", false},
		{"-- HTTP_REQ\navi.http.add_cookie('a', V)", false},
		{"-- HTTP_REQ\navi.http.add_cookie(V, 'a')", false},
		{"-- HTTP_REQ\navi.http.replace_cookie('sid', V)", false},
		{"-- HTTP_REQ\navi.http.response(200, {x_a = V})", false},
		{"-- HTTP_REQ\navi.http.response(200, {[V] = 'a'})", false},
		{"-- HTTP_REQ\navi.http.response(302, {location = V})", false},
		{"-- HTTP_REQ\navi.http.response(200, {set_cookie = {'a=b', V}})", false},
		{"-- HTTP_REQ\navi.http.response(V)", false},
		{"-- HTTP_REQ\navi.http.redirect(V)", true},
		{"-- HTTP_REQ\navi.http.redirect('/' .. V)", true},
		{"-- HTTP_REQ\navi.http.set_path('/' .. V)", true},
		{"-- HTTP_REQ\navi.http.set_uri('/' .. V .. '?' .. V)", true},
		{"-- HTTP_REQ\navi.http.set_query(V)", true},
		{"-- HTTP_REQ\navi.http.set_query({[V] = V})", true},
		{"-- HTTP_RESP\navi.http.add_header('X-A', V)", false},
		{"-- HTTP_RESP\navi.http.add_header(V, 'a')", false},
		{"-- HTTP_RESP\navi.http.replace_header('Content-Type', V)", false},
		{"-- HTTP_RESP\navi.http.add_cookie('a', V)", false},
		{"-- HTTP_RESP\navi.http.add_cookie('a', 'b', V)", false},
		{"-- HTTP_RESP\navi.http.add_cookie('a', 'b', '/', V)", false},
		{"-- HTTP_RESP\navi.http.response(200, {x_a = V})", false},
	}
	for _, p := range []protocol{http1, http2TLS} {
		t.Run(string(p), func(t *testing.T) {
			w := newWire(t, p)
			_, plain, plainAsked := w.run(onRequest(t, "plain", "avi.vs.log('x')"))
			_, failed, _ := w.run(onRequest(t, "failed", "error('x')"))
			w.recs.take(t, 2)
			for i, writer := range writers {
				for j, payload := range payloads {
					if testing.Short() && (i+j)%4 > 0 {
						continue
					}
					script := strings.ReplaceAll(writer.script, "V", luaString(payload))
					status, head, asked := w.run(compile(t, "evil", script))
					rec := w.recs.next(t)
					// What is encoded in a path decodes to a control character:
					// such a request is not sent.
					unsent := rec.Error != nil && strings.HasSuffix(rec.Error.Error(), "path with a control character")
					if refused := len(rec.ScriptErrors) == 1; refused == writer.encodes || (refused || unsent) != (status == 500) {
						t.Errorf("%s with %q: status %d, errors %v", writer.script, payload, status, rec.ScriptErrors)
					}
					want := fieldNames(plain)
					switch status {
					case 500:
						want = fieldNames(failed)
					case 302:
						want = []string{"connection", "content-length", "date", "location"}
						if p == http2TLS {
							want = want[1:]
						}
					}
					if got := fieldNames(head); !slices.Equal(got, want) {
						t.Errorf("%s with %q: the client gets the fields %q, want %q", writer.script, payload, got, want)
					}
					if got, want := fieldNames(asked), fieldNames(plainAsked); asked != "" && !slices.Equal(got, want) {
						t.Errorf("%s with %q: the server gets the fields %q, want %q", writer.script, payload, got, want)
					}
					for _, text := range []string{head, asked} {
						if strings.Contains(text, "\x00") || strings.Contains(text, "\nX-Evil") {
							t.Errorf("%s with %q: on the wire\n%q", writer.script, payload, text)
						}
					}
				}
			}
		})
	}
}

// A value that is folded over several lines, such as a certificate, is written
// as one line, in which the fold is a blank.
func TestFoldedValues(t *testing.T) {
	for _, p := range []protocol{http1, http2TLS} {
		w := newWire(t, p)
		for _, payload := range []string{"a\r\n X-Evil: 1", "a\n\tX-Evil: 1", "a\r\n \t X-Evil: 1"} {
			for _, script := range []string{
				"-- HTTP_REQ\navi.http.add_header('X-A', V)", "-- HTTP_REQ\navi.http.replace_header('X-A', V)",
				"-- HTTP_REQ\navi.http.response(200, {x_a = V})", "-- HTTP_RESP\navi.http.add_header('X-A', V)",
			} {
				_, head, asked := w.run(compile(t, "folds", strings.ReplaceAll(script, "V", luaString(payload))))
				rec := w.recs.next(t)
				if len(rec.ScriptErrors) > 0 || !strings.Contains(strings.ToLower(head+asked), "x-a: a x-evil: 1\r\n") {
					t.Errorf("%s with %q: %v, on the wire\n%q\n%q", script, payload, rec.ScriptErrors, asked, head)
				}
			}
		}
	}
}

// Where a message ends, and what belongs to the connection, is none of a
// script's business.
func TestFramingHeaders(t *testing.T) {
	t.Parallel()
	names := []string{"Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive", "Proxy-Connection", "TE", "Trailer", "Upgrade"}
	writers := []string{
		"-- HTTP_REQ\navi.http.add_header(N, V)", "-- HTTP_REQ\navi.http.replace_header(N, V)", "-- HTTP_REQ\navi.http.remove_header(N)",
		"-- HTTP_REQ\navi.http.response(200, {[N] = V}, 'body')", "-- HTTP_REQ\navi.http.response(200, {[N] = {V, V}}, 'body')",
		"-- HTTP_RESP\navi.http.add_header(N, V)", "-- HTTP_RESP\navi.http.replace_header(N, V)", "-- HTTP_RESP\navi.http.remove_header(N)",
		"-- HTTP_RESP\navi.http.response(200, {[N] = V}, 'body')",
	}
	for _, p := range []protocol{http1, http2TLS} {
		t.Run(string(p), func(t *testing.T) {
			w := newWire(t, p)
			turn := 0
			for _, writer := range writers {
				for _, name := range names {
					for _, spelling := range []string{name, strings.ToLower(name), " " + strings.ToUpper(name) + "\t", strings.ReplaceAll(name, "-", "_")} {
						for _, value := range []string{"0", "chunked", "close, X-A"} {
							if turn++; testing.Short() && turn%5 > 0 {
								continue
							}
							script := strings.NewReplacer("N", luaString(spelling), "V", luaString(value)).Replace(writer[strings.Index(writer, "\n"):])
							status, head, asked := w.run(compile(t, "evil", writer[:strings.Index(writer, "\n")]+script))
							rec := w.recs.next(t)
							// Underscores mean hyphens in a table of a response
							// only; elsewhere the name is another one.
							own := strings.Contains(spelling, "_") && !strings.Contains(writer, "response")
							ignored := strings.Contains(writer, "response") && name == "Content-Length"
							if refused := len(rec.ScriptErrors) == 1; refused == (own || ignored) || refused != (status == 500) {
								t.Errorf("%s of %q: status %d, errors %v", writer, spelling, status, rec.ScriptErrors)
							}
							for who, text := range map[string]string{"client": head, "server": asked} {
								fields := fieldNames(text)
								n := 0
								for _, f := range fields {
									if f == "content-length" || f == "transfer-encoding" {
										n++
									}
								}
								if n > 1 {
									t.Errorf("%s of %q: the %s gets\n%s", writer, spelling, who, text)
								}
							}
						}
					}
				}
			}
		})
	}
}

// A status that is none fails the script, instead of the connection.
func TestOddStatus(t *testing.T) {
	t.Parallel()
	w := newWire(t, http1) // whose log must not speak of a panic
	for _, status := range []string{"0", "-1", "99", "100", "101", "103", "199", "600", "999", "1000", "2^31", "2^53", "0/0", "1/0", "-1/0", "204.5", "'abc'", "''", "'200 OK'", "nil", "{}", "true", "print"} {
		for _, event := range []string{"-- HTTP_REQ\n", "-- HTTP_RESP\n"} {
			got, _, _ := w.run(compile(t, "odd", event+"avi.http.response("+status+", {}, 'body')"))
			if rec := w.recs.next(t); got != 500 || len(rec.ScriptErrors) != 1 {
				t.Errorf("status %s: the client got %d, errors %v", status, got, rec.ScriptErrors)
			}
		}
		if got, _, _ := w.run(onRequest(t, "odd", "avi.http.redirect('/', "+status+")")); got != 500 && status != "nil" {
			t.Errorf("redirect with status %s: the client got %d", status, got)
		}
		w.recs.next(t)
	}
}
