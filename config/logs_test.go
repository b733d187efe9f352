package config

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/accesslog"
	"github.com/limpetlb/limpet/internal/testfiles"
	"github.com/limpetlb/limpet/internal/testwait"
)

// finish ends the runtime.
func (h *house) finish() {
	h.Helper()
	if err := h.Shutdown(h.Context()); err != nil {
		h.Error(err)
	}
	h.end()
	h.ended.Wait()
}

// visit sends a request to a service without a connection.
func (h *house) visit(service, target string) {
	h.Helper()
	vs, ok := h.Service(service)
	if !ok {
		h.Fatalf("no service %q", service)
	}
	visit(vs, target)
}

func visit(vs http.Handler, target string) {
	r := httptest.NewRequest(http.MethodGet, target, nil)
	r.RemoteAddr = "192.0.2.7:4711"
	r.Header.Set("User-Agent", "test/1")
	vs.ServeHTTP(httptest.NewRecorder(), r)
}

// file returns what a file of the directory has; nothing if there is none.
func (h *house) file(name string) string {
	text, err := os.ReadFile(filepath.Join(h.dir, name))
	if err != nil && !os.IsNotExist(err) {
		h.Fatal(err)
	}
	return string(text)
}

// awaitLine waits until a file has a text.
func (h *house) awaitLine(name, text string) {
	h.Helper()
	testwait.Until(h, "no "+text+" in "+name, func() bool { return strings.Contains(h.file(name), text) })
}

// A buffer can be read while it is written.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// withoutTimes are the lines without what differs each time.
func withoutTimes(text string) string {
	text = regexp.MustCompile(`"(time|report_timestamp)":"[-0-9]{10}T[:0-9]{8}\.[0-9]{6}Z"`).ReplaceAllString(text, `"$1":T`)
	text = regexp.MustCompile(`"(duration_us|total_time)":[0-9]+`).ReplaceAllString(text, `"$1":D`)
	text = regexp.MustCompile(`\[[0-9]{2}/[A-Z][a-z]{2}/[0-9]{4}:[:0-9]{8} \+0000\]`).ReplaceAllString(text, "[T]")
	return regexp.MustCompile(`\b(time|duration)=\S+`).ReplaceAllString(text, "$1=T")
}

// Each service writes where the file says, or where the file says for all.
func TestLogsOfServices(t *testing.T) {
	text := `logs: {output: process.log, format: json}
accessLog: {output: access.log}
listeners: [{name: here, address: "127.0.0.1:0"}]
services:
  - {name: shop, hosts: [shop], ` + strings.TrimSpace(teapot) + `}
  - {name: old, hosts: [old], accessLog: {output: old.log, format: avi, fields: [query]}, ` + strings.TrimSpace(teapot) + `}
  - {name: site, hosts: [site], accessLog: {output: site.log, format: vcombined}, ` + strings.TrimSpace(teapot) + `}
  - {name: quiet, hosts: [quiet], accessLog: {format: off}, ` + strings.TrimSpace(teapot) + `}
  - {name: plain, hosts: [plain], accessLog: {output: plain.log, format: text, classes: {significant: error}, fields: [userAgent, query]}, ` + strings.TrimSpace(teapot) + "}\n"
	var given buffer
	h := open(t, map[string]string{"limpet.yaml": text}, Options{Logger: slog.New(slog.NewTextHandler(&given, nil))})
	for _, name := range []string{"shop", "old", "site", "quiet", "plain"} {
		h.visit(name, "http://"+name+"/a?b")
	}
	if got := h.get("here", "nobody", "/"); !strings.HasPrefix(got, "421") {
		t.Error(got)
	}
	h.Logger().Info("hello", "after", testwait.Limit)
	h.finish()
	for name, want := range map[string]string{
		"process.log": `{"time":T,"level":"INFO","msg":"hello","after_us":60000000}` + "\n",
		"old.log":     `{"report_timestamp":T,"vs_name":"old","adf":true,"udf":false,"client_ip":"192.0.2.7","client_src_port":4711,"method":"GET","host":"old","uri_path":"/a","uri_query":"b","http_version":"1.1","response_code":418,"response_length":17,"total_time":D,"http_security_policy_rule_name":"all","significant_log":["ADF_USER_DELETE_OPERATION_HTTP_RULE_SECURITY_ACTION_CLOSE_CONN","ADF_RESPONSE_CODE_4XX"],"significance":"dropped by policy, status 4xx"}` + "\n",
		"site.log":    `site:0 192.0.2.7 - - [T] "GET /a HTTP/1.1" 418 17 "-" "test/1"` + "\n",
		"plain.log":   `time=T level=ERROR msg=request vs=plain client=192.0.2.7:4711 method=GET host=plain path=/a query=b proto=HTTP/1.1 status=418 bytes=17 duration=T security_rule=all significant="dropped by policy, status 4xx" user_agent=test/1` + "\n",
	} {
		if diff := cmp.Diff(want, withoutTimes(h.file(name))); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
	shop, rest, _ := strings.Cut(h.file("access.log"), "\n")
	want := `{"time":T,"level":"WARN","msg":"request","vs":"shop","client":"192.0.2.7","client_port":4711,"method":"GET","host":"shop","uri":"/a","proto":"HTTP/1.1","status":418,"bytes":17,"duration_us":D,"security_rule":"all","significant":["dropped by policy","status 4xx"]}`
	if diff := cmp.Diff(want, withoutTimes(shop)); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(rest, `"vs":"here"`) || !strings.Contains(rest, `"status":421`) || strings.Count(rest, "\n") != 1 {
		t.Errorf("the request that no service has: %s", rest)
	}
	if given.String() != "" {
		t.Errorf("lines in the program's log: %s", given.String())
	}
}

// Without a log of their own, requests are lines of the log of the process.
func TestOneLog(t *testing.T) {
	for name, c := range map[string]struct{ logs, want string }{
		"given":  {"", `time=T level=WARN msg=request vs=limpet client=192.0.2.7:4711 `},
		"text":   {"logs: {output: a.log}", `time=T level=WARN msg=request vs=limpet client=192.0.2.7:4711 `},
		"json":   {"logs: {output: a.log, format: json}", `{"time":T,"level":"WARN","msg":"request","vs":"limpet","client":"192.0.2.7","client_port":4711,`},
		"errors": {"logs: {output: a.log, format: json, level: error}", ""},
		"no log": {"logs: {output: a.log, level: error}", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var given buffer
			h := open(t, map[string]string{"limpet.yaml": teapot + c.logs}, Options{Logger: slog.New(slog.NewTextHandler(&given, nil))})
			h.visit("limpet", "http://a/")
			h.finish()
			got := h.file("a.log")
			if name == "given" {
				got = given.String()
			} else if given.String() != "" {
				t.Errorf("in the program's log: %s", given.String())
			}
			if got = withoutTimes(got); !strings.HasPrefix(got, c.want) || (got == "") != (c.want == "") {
				t.Errorf("got %s\nwant %s", got, c.want)
			}
		})
	}
}

// The Logger that a program gives a service gets everything of it.
func TestEditedLogger(t *testing.T) {
	var own buffer
	h := open(t, map[string]string{"limpet.yaml": teapot + "accessLog: {output: a.log}\n"}, Options{Edit: func(_ string, c *limpet.Config) {
		c.Logger = slog.New(slog.NewTextHandler(&own, nil))
	}})
	h.visit("limpet", "/")
	h.finish()
	if h.file("a.log") != "" || !strings.Contains(own.String(), "msg=request") {
		t.Errorf("%q, %q", h.file("a.log"), own.String())
	}
}

// Logs follow the file, and lose no line on the way. What cannot be opened is
// an error, and changes nothing.
func TestLogsFollow(t *testing.T) {
	h := open(t, map[string]string{"limpet.yaml": teapot}, Options{})
	h.visit("limpet", "/nowhere")
	stop, sent := make(chan struct{}), make(chan int)
	go func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				sent <- n
				return
			default:
				h.visit("limpet", fmt.Sprint("/", n))
			}
		}
	}()
	update := func(text string, want ...string) {
		t.Helper()
		changes, err := h.rewrite(teapot + text)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(Changes{Live: want}, changes); diff != "" {
			t.Error(diff)
		}
	}
	update("accessLog: {output: a.log, format: json}\n", "accessLog")
	h.awaitLine("a.log", "\n")
	update("accessLog: {output: b.log, format: combined}\nlogs: {output: p.log}\n", "logs", "accessLog")
	h.awaitLine("b.log", "\n")
	h.Logger().Info("to p")
	h.awaitLine("p.log", "msg=\"to p\"")
	for _, bad := range []string{"accessLog: {output: none/a.log}\n", "logs: {output: .}\n"} {
		_, err := h.rewrite(teapot + bad)
		path := "accessLog.output: open "
		if strings.HasPrefix(bad, "logs") {
			path = "is a directory"
		}
		if err == nil || !strings.Contains(err.Error(), "limpet.yaml:2:") || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	before := strings.Count(h.file("b.log"), "\n")
	testwait.Until(t, "no line after an update that failed", func() bool { return strings.Count(h.file("b.log"), "\n") > before })
	update("accessLog: {output: a.log, format: text}\n", "logs", "accessLog")
	h.awaitLine("a.log", "msg=request vs=limpet")
	update("accessLog: {output: c.log, format: avi}\n", "accessLog")
	close(stop)
	n := <-sent
	update("accessLog: {format: off}\n", "accessLog")
	h.visit("limpet", "/nowhere")
	h.finish()

	all := h.file("a.log") + h.file("b.log") + h.file("c.log")
	got := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?:"uri":"|"uri_path":"|GET |path=)/(\d+|nowhere)\b`).FindAllStringSubmatch(all, -1) {
		if got[m[1]] {
			t.Errorf("%s twice", m[1])
		}
		got[m[1]] = true
	}
	first := n
	for i := range n {
		if got[fmt.Sprint(i)] {
			first = min(first, i)
		} else if first < i {
			t.Errorf("%d is missing", i)
		}
	}
	if first == n || got["nowhere"] {
		t.Errorf("of %d lines, the first is %d; %v", n, first, got["nowhere"])
	}
	if lines := strings.Count(all, "\n"); lines != len(got) {
		t.Errorf("%d lines for %d requests", lines, len(got))
	}
}

// Lines wait for Run, or for Shutdown if there is none, and nothing is started
// before.
func TestLogsWaitForRun(t *testing.T) {
	dir := testfiles.Write(t, map[string]string{"limpet.yaml": "logs: {output: a.log}\npersistence: {httpCookie: {}}\npools: [{name: web, servers: [{address: 127.0.0.1:1}]}]\n"})
	f, err := Load(t.Context(), filepath.Join(dir, "limpet.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "a.log")
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("Load made the file: %v", err)
	}
	if _, err := f.Build(Options{Offline: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("Build made the file of a runtime that is offline: %v", err)
	}
	rt, err := f.Build(Options{})
	if err != nil {
		t.Fatal(err)
	}
	read := func() string {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if text := read(); text != "" {
		t.Errorf("written by Build: %s", text)
	}
	if err := rt.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if text := read(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "persistence cookies have no configured keys") {
		t.Errorf("written by Shutdown: %s", text)
	}
	for range 2 { // a runtime can run again
		rt.Logger().Info("another")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := rt.Run(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(read(), "msg=another"); n != 2 {
		t.Errorf("%d lines of the two", n)
	}
}

// Reopen makes a new file where another program has renamed the old one.
func TestReopen(t *testing.T) {
	h := open(t, map[string]string{"limpet.yaml": teapot + "logs: {output: p.log}\naccessLog: {output: a.log}\n"}, Options{})
	path := filepath.Join(h.dir, "a.log")
	h.visit("limpet", "/first")
	h.awaitLine("a.log", "/first")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if err := h.Reopen(); err != nil {
		t.Fatal(err)
	}
	h.visit("limpet", "/second")
	h.awaitLine("a.log", "/second")
	if text := h.file("a.log.1"); strings.Count(text, "\n") != 1 {
		t.Error(text)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := h.Reopen(); err == nil || !strings.Contains(err.Error(), "a.log: is a directory") {
		t.Error(err)
	}
}

// A log with several users has the largest queue.
func TestQueueSizes(t *testing.T) {
	text := teapot + "logs: {output: a.log, queueLines: 600, queueBytes: 1MiB}\naccessLog: {output: a.log, queueLines: 700, queueBytes: 64KiB}\n"
	dir := testfiles.Write(t, map[string]string{"limpet.yaml": text})
	f, err := Load(t.Context(), filepath.Join(dir, "limpet.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	rt, err := f.Build(Options{})
	if err != nil {
		t.Fatal(err)
	}
	vs, _ := rt.Service("limpet")
	for range 1000 { // nobody writes them
		visit(vs, "/")
	}
	if err := rt.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	written, err := os.ReadFile(filepath.Join(dir, "a.log"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(written), "msg=request"); n != 700-256 || !strings.Contains(string(written), fmt.Sprintf("msg=\"log lines dropped\" n=%d\n", 1000-n)) {
		t.Errorf("%d lines", n)
	}
}

func TestLogFaults(t *testing.T) {
	for text, want := range map[string]string{
		"logs: {format: jsn}":                          `a.yaml:2:16: logs.format: "jsn" is not one of text, json; did you mean "json"?`,
		"logs: {format: combined}":                     `a.yaml:2:16: logs.format: "combined" is not one of text, json`,
		"logs: {level: warnn}":                         `a.yaml:2:15: logs.level: "warnn" is not one of debug, info, warn, error; did you mean "warn"?`,
		"logs: {queueLines: 5}":                        `a.yaml:2:20: logs.queueLines: 5: less than 512`,
		"logs: {queueBytes: 2GiB}":                     `a.yaml:2:20: logs.queueBytes: 2147483648: more than 1GiB`,
		"accessLog: {format: combind}":                 `a.yaml:2:21: accessLog.format: "combind" is not one of text, json, combined, vcombined, avi, off; did you mean "combined"?`,
		"accessLog: {classes: {other: none}}":          `a.yaml:2:30: accessLog.classes.other: "none" is not one of debug, info, warn, error`,
		"accessLog: {fields: [userAgnt]}":              `a.yaml:2:22: accessLog.fields[0]: "userAgnt" is not one of userAgent, referer, query, tls, requestBytes; did you mean "userAgent"?`,
		"accessLog: {format: combined, fields: [tls]}": `a.yaml:2:40: accessLog.fields[0]: tls is not in lines of the format combined; use json, text or avi`,
		"accessLog: {output: \"a\\nb\"}":               `accessLog.output: `,
		"accesslog: {}":                                `did you mean "accessLog"?`,
	} {
		_, errs := loaded(t, map[string]string{"a.yaml": teapot + text + "\n"}, "a.yaml")
		if !strings.Contains(errs, want) || strings.Contains(errs, "\n") {
			t.Errorf("%s: %s\nnot %s", text, errs, want)
		}
	}
	_, err := Parse(t.Context(), "a.yaml", []byte(teapot+"logs: {output: a.log}\n"), fstest.MapFS{})
	if want := "a.yaml:2:16: logs.output: \"a.log\": not an absolute name"; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("%v, not %s", err, want)
	}
	services := "services: [{name: a, httpSecurity: [{name: a, action: close}], accessLog: {fields: [tls], format: vcombined}}]\nlogs: {}\naccessLog: {}\n"
	if _, errs := loaded(t, map[string]string{"a.yaml": services}, "a.yaml"); !strings.Contains(errs, "a.yaml:1:85: services[0].accessLog.fields[0]: ") {
		t.Error(errs)
	}
}

// What a file and a program call levels is the same.
func TestLogLevels(t *testing.T) {
	for _, l := range []logLevel{debugLevel, infoLevel, warnLevel, errorLevel} {
		if got := l.or(-99); strings.ToLower(got.String()) != l.String() {
			t.Errorf("%v is %v", l, got)
		}
	}
	if got := (classesConfig{Other: debugLevel}).levels(); got != (accesslog.Levels{Significant: slog.LevelWarn, Filtered: slog.LevelInfo, Other: slog.LevelDebug}) {
		t.Errorf("%+v", got)
	}
}

// What a program derives from the logger of a runtime follows it.
func TestLoggerFollows(t *testing.T) {
	var first, second buffer
	l := newLogs(slog.New(slog.NewTextHandler(&first, nil)))
	derived := l.process.With("a", 1).WithGroup("g").With("b", 2).WithGroup("")
	derived.Info("one", "c", 3)
	h := slog.Handler(slog.NewJSONHandler(&second, nil))
	l.target.Store(&h)
	derived.Info("two", "c", 3)
	derived.Debug("three")
	if !strings.HasSuffix(first.String(), "msg=one a=1 g.b=2 g.c=3\n") || !strings.HasSuffix(second.String(), `"msg":"two","a":1,"g":{"b":2,"c":3}}`+"\n") {
		t.Errorf("%s%s", first.String(), second.String())
	}
}

// The bytes of bodies are counted for logs that want to know.
func TestRequestBytes(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body)
	}))
	defer server.Close()
	h := open(t, map[string]string{"limpet.yaml": fmt.Sprintf("pools: [{name: web, servers: [{address: %s}]}]\naccessLog: {output: a.log, format: json, fields: [requestBytes]}\n", server.Listener.Addr())}, Options{})
	for _, body := range []string{"", "hello", strings.Repeat("a", 100_000)} {
		for _, chunked := range []bool{false, true} {
			var r io.Reader = strings.NewReader(body)
			if chunked {
				r = io.MultiReader(r)
			}
			res, err := http.Post("http://"+h.at["listen"], "text/plain", r)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(res.Body)
			res.Body.Close()
			if err != nil || string(got) != body {
				t.Errorf("%d bytes came back of %d, %v", len(got), len(body), err)
			}
		}
	}
	http.DefaultClient.CloseIdleConnections()
	h.finish()
	var counts []int
	for line := range strings.Lines(h.file("a.log")) {
		var l struct {
			RequestBytes *int `json:"request_bytes"`
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil || l.RequestBytes == nil {
			t.Fatalf("%s: %v", line, err)
		}
		counts = append(counts, *l.RequestBytes)
	}
	slices.Sort(counts)
	if diff := cmp.Diff([]int{0, 0, 5, 5, 100_000, 100_000}, counts); diff != "" {
		t.Error(diff)
	}
}

// The record of a request that outlives its service goes where those of others
// go.
func TestLogOfRemovedService(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	const shared = "accessLog: {output: all.log}\npools: [{name: web, servers: [{address: 127.0.0.1:1}]}]\nservices: [{name: stays, pools: [web]}"
	h := open(t, map[string]string{"limpet.yaml": shared + ", {name: goes, hosts: [goes], pools: [web], accessLog: {output: own.log}}]\n"}, Options{Edit: func(_ string, c *limpet.Config) {
		c.Transport = transport(func(r *http.Request) (*http.Response, error) {
			close(begun)
			<-release
			return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
		})
	}})
	vs, _ := h.Service("goes")
	visited := make(chan struct{})
	go func() {
		defer close(visited)
		visit(vs, "/late")
	}()
	testwait.Receive(t, begun, "request")
	if _, err := h.rewrite(shared + "]\n"); err != nil {
		t.Fatal(err)
	}
	close(release)
	testwait.Receive(t, visited, "answer")
	h.awaitLine("all.log", `"uri":"/late"`)
	if got := h.file("own.log"); got != "" {
		t.Errorf("in the log of the service: %s", got)
	}
}
