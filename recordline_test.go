package limpet

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/accesslog"
	"github.com/limpetlb/limpet/internal/cputime"
	"github.com/limpetlb/limpet/internal/logqueue"
	"github.com/limpetlb/limpet/internal/testrace"
	"github.com/limpetlb/limpet/policy"
)

var (
	peerOfTest   = netip.MustParseAddrPort("192.0.2.7:4711")
	serverOfTest = netip.MustParseAddrPort("10.0.0.1:8080")
)

// lineOfTest is the line of an ordinary request.
func lineOfTest() *recordLine {
	r := httptest.NewRequest(http.MethodGet, "https://www.example.com/a%20b?x=1", nil)
	r.Header = http.Header{"Referer": {"https://www.example.com/"}, "User-Agent": {"curl/8.5.0"}}
	r.TLS = &tls.ConnectionState{Version: tls.VersionTLS13, CipherSuite: tls.TLS_AES_128_GCM_SHA256, ServerName: "www.example.com", DidResume: true}
	return &recordLine{
		Record: &Record{
			VirtualService: "shop", Start: time.Date(2026, 11, 30, 17, 0, 1, 119_246_000, time.UTC), Duration: 4210 * time.Microsecond,
			FirstByte: 3900 * time.Microsecond, Client: peerOfTest, Source: peerOfTest, ClientSource: "peer", ClientReason: "peer-untrusted",
			Local: netip.MustParseAddrPort("192.0.2.1:443"), Method: "GET", Host: "www.example.com", Path: "/a%20b", Proto: "HTTP/2.0",
			Status: 200, ServerStatus: 200, Bytes: 512, Pool: "web", Server: serverOfTest, Tried: 1, Outcome: OutcomeHit,
		},
		tx: &transaction{messages: messages{r: r}}, level: slog.LevelInfo,
	}
}

// written is the line in a format.
func (l *recordLine) written(t testing.TB, format accesslog.Format, fields ...accesslog.Field) string {
	t.Helper()
	var out bytes.Buffer
	q := logqueue.New(&out)
	log := accesslog.NewLog(accesslog.Log{Format: format, Fields: accesslog.FieldsOf(fields), Queue: q})
	l.fields = log.Fields
	if err := l.write(t.Context(), log); err != nil {
		t.Fatal(err)
	}
	if err := q.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// The lines of an ordinary request, byte by byte.
func TestGoldenLines(t *testing.T) {
	all := []accesslog.Field{accesslog.UserAgent, accesslog.Referer, accesslog.Query, accesslog.TLS, accesslog.RequestBytes}
	apache := []accesslog.Field{accesslog.UserAgent, accesslog.Referer}
	for name, c := range map[string]struct {
		format accesslog.Format
		fields []accesslog.Field
		change func(*recordLine)
		want   string
	}{
		"combined": {accesslog.Combined, append(apache, accesslog.Query), func(l *recordLine) { l.UserID = "alice" },
			`192.0.2.7 - alice [30/Nov/2026:17:00:01 +0000] "GET /a%20b?x=1 HTTP/2.0" 200 512 "https://www.example.com/" "curl/8.5.0"`},
		"combined without the query": {accesslog.Combined, apache, nil,
			`192.0.2.7 - - [30/Nov/2026:17:00:01 +0000] "GET /a%20b HTTP/2.0" 200 512 "https://www.example.com/" "curl/8.5.0"`},
		"vcombined": {accesslog.VCombined, apache, func(l *recordLine) { l.Host = "www.example.com:8443" },
			`www.example.com:443 192.0.2.7 - - [30/Nov/2026:17:00:01 +0000] "GET /a%20b HTTP/2.0" 200 512 "https://www.example.com/" "curl/8.5.0"`},
		"combined, hostile": {accesslog.Combined, append(apache, accesslog.Query), func(l *recordLine) {
			l.UserID = "a b\"c\\d\n"
			l.Path, l.Proto, l.Status, l.ServerStatus = "/\"\x7f\xe4", "", 0, 0
			l.tx.r.URL.RawQuery = "a b\r"
			l.tx.r.Header = http.Header{"User-Agent": {"x\" 200 \\ \x1b[2J"}}
		}, `192.0.2.7 - a\x20b\x22c\x5cd\x0a [30/Nov/2026:17:00:01 +0000] "GET /\x22\x7f\xe4?a\x20b\x0d -" - - "-" "x\x22 200 \x5c \x1b[2J"`},
		"json": {accesslog.JSON, nil, nil,
			`{"time":"2026-11-30T17:00:01.123456Z","level":"INFO","msg":"request","vs":"shop","client":"192.0.2.7","client_port":4711,"method":"GET","host":"www.example.com","uri":"/a%20b","proto":"HTTP/2.0","status":200,"bytes":512,"duration_us":4210,"first_byte_us":3900,"pool":"web","server":"10.0.0.1:8080","persistence":"hit"}`},
		"json with all fields": {accesslog.JSON, all, func(l *recordLine) { l.level, l.Outcome = slog.LevelWarn, 0 },
			`{"time":"2026-11-30T17:00:01.123456Z","level":"WARN","msg":"request","vs":"shop","client":"192.0.2.7","client_port":4711,"method":"GET","host":"www.example.com","uri":"/a%20b?x=1","proto":"HTTP/2.0","request_bytes":0,"status":200,"bytes":512,"duration_us":4210,"first_byte_us":3900,"pool":"web","server":"10.0.0.1:8080","user_agent":"curl/8.5.0","referer":"https://www.example.com/","tls_version":"TLS 1.3","tls_suite":"TLS_AES_128_GCM_SHA256","tls_server_name":"www.example.com","tls_resumed":true}`},
		"json, hostile": {accesslog.JSON, nil, func(l *recordLine) {
			*l.Record = Record{VirtualService: "a\"\\\n\x01\u2028é\xff", Start: l.Start, Method: strings.Repeat("m", 5000)}
		}, `{"time":"2026-11-30T17:00:01.119246Z","level":"INFO","msg":"request","vs":"a\"\\\n\u0001\u2028é\ufffd","method":"` + strings.Repeat("m", 4096) + `…","duration_us":0}`},
		"json, denied connection": {accesslog.JSON, nil, func(l *recordLine) {
			*l.Record = Record{VirtualService: "shop", Start: l.Start, Client: peerOfTest, Source: peerOfTest, Connection: true, Closed: true, NetworkRule: "no", Significant: []Significance{PolicyDrop}}
			l.tx, l.level, l.suppressed = nil, slog.LevelWarn, 7
		}, `{"time":"2026-11-30T17:00:01.119246Z","level":"WARN","msg":"connection denied","vs":"shop","client":"192.0.2.7","client_port":4711,"duration_us":0,"network_rule":"no","significant":["dropped by policy"],"suppressed":7}`},
		"avi": {accesslog.Avi, all, func(l *recordLine) {
			l.Significant = []Significance{SlowResponse, Status5xx}
			l.Status, l.Log, l.Duration = 503, []string{"a", "b"}, 1234567*time.Microsecond
		}, `{"report_timestamp":"2026-11-30T17:00:02.353813Z","vs_name":"shop","adf":true,"udf":false,"client_ip":"192.0.2.7","client_src_port":4711,"vs_ip":"192.0.2.1","client_dest_port":443,"method":"GET","host":"www.example.com","uri_path":"/a%20b","uri_query":"x=1","http_version":"2.0","user_agent":"curl/8.5.0","referer":"https://www.example.com/","ssl_version":"TLS 1.3","ssl_cipher":"TLS_AES_128_GCM_SHA256","sni_hostname":"www.example.com","request_length":0,"response_code":503,"response_length":512,"pool_name":"web","server_ip":"10.0.0.1","server_dest_port":8080,"server_response_code":200,"servers_tried":1,"persistence_used":true,"server_response_time_first_byte":3,"total_time":1234,"significant_log":["ADF_RESPONSE_CODE_5XX"],"significance":"slow response, status 5xx","datascript_log":"a\nb"}`},
	} {
		t.Run(name, func(t *testing.T) {
			l := lineOfTest()
			if c.change != nil {
				c.change(l)
			}
			if diff := cmp.Diff(c.want+"\n", l.written(t, c.format, c.fields...)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// fullLine is the line of a record in which everything is known.
func fullLine() *recordLine {
	l := lineOfTest()
	l.TraceID = "0af7651916cd43dd8448eb211c80319c"
	l.RequestID, l.Source, l.ClientSource, l.ClientReason = "id", netip.MustParseAddrPort("10.0.0.9:1"), "header", "hop-untrusted"
	l.Proxy, l.Location, l.UserID, l.SentPath, l.ServerStatus = netip.MustParseAddrPort("10.0.0.8:2"), "NL", "alice", "/c", 500
	l.ServerName, l.BindingSource, l.Bound, l.Tried, l.GivenUp = "one", "memory", netip.MustParseAddrPort("10.0.0.2:80"), 2, errors.New("refused")
	l.NetworkRule, l.ConnectionLimit, l.SecurityRule, l.RequestRule, l.ResponseRule = "n", "connections.max", "s", "r", "p"
	l.Monitored = []policy.Outcome{{Rule: "dry", Action: policy.ActionClose}, {Rule: "run", Action: policy.ActionReset}}
	l.Significant, l.Log, l.Error = []Significance{Status4xx, ServerReselect}, []string{"one\ntwo"}, errors.New("fault")
	l.ScriptErrors = []*datascript.RuntimeError{{Script: "stick", Event: datascript.HTTPReq, Message: "oh no", Traceback: "stack"}}
	l.RequestHeader, l.suppressed = http.Header{"Accept": {"a", "b"}, "X": {"c"}}, 3
	return l
}

// Each line is one, is JSON, and has its keys once, in the order in which the
// manual lists them.
func TestKeysOfLines(t *testing.T) {
	manual, err := os.ReadFile("docs/guides/logs.md")
	if err != nil {
		t.Fatal(err)
	}
	all := []accesslog.Field{accesslog.UserAgent, accesslog.Referer, accesslog.Query, accesslog.TLS, accesslog.RequestBytes}
	for format, heading := range map[accesslog.Format]string{accesslog.JSON: "### Keys of JSON\n", accesslog.Avi: "### Keys of Avi\n"} {
		text := fullLine().written(t, format, all...)
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber()
		var got []string
		depth := 0
		for {
			token, err := d.Token()
			if err != nil {
				break
			}
			if delim, ok := token.(json.Delim); ok {
				depth += map[json.Delim]int{'{': 1, '[': 1, '}': -1, ']': -1}[delim]
				if depth > 2 {
					t.Errorf("%v: not flat: %s", format, text)
				}
				continue
			}
			if depth == 1 {
				got = append(got, fmt.Sprint(token))
				if !d.More() {
					t.Errorf("no value of %v", token)
				}
				var value any
				if err := d.Decode(&value); err != nil {
					t.Errorf("%v: %v", token, err)
				}
			}
		}
		if !json.Valid([]byte(text)) || strings.Count(text, "\n") != 1 {
			t.Errorf("%v: no line of JSON: %s", format, text)
		}
		_, part, _ := strings.Cut(string(manual), heading)
		part, _, _ = strings.Cut(part, "\n#")
		var want []string
		for _, row := range regexp.MustCompile("(?m)^\\| (`.*?) \\|").FindAllStringSubmatch(part, -1) {
			for _, key := range regexp.MustCompile("`([a-z0-9_]+)`").FindAllStringSubmatch(row[1], -1) {
				want = append(want, key[1])
			}
		}
		if format == accesslog.JSON {
			want = slices.DeleteFunc(want, func(key string) bool { return key == "tls_client" }) // whose certificate must be good
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("keys of %v (-docs/guides/logs.md +line):\n%s", format, diff)
		}
	}
}

// The line of the Logger has the same facts as that of JSON.
func TestAttributesOfLines(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	fullLine().log(context.Background(), &snapshot{Config: Config{Logger: log}}, nil)
	want := `level=INFO msg=request vs=shop request_id=id trace_id=0af7651916cd43dd8448eb211c80319c client=192.0.2.7:4711 source=10.0.0.9:1 client_source=header client_reason=hop-untrusted proxy=10.0.0.8:2 location=NL user=alice method=GET host=www.example.com path=/a%20b proto=HTTP/2.0 sent_path=/c status=200 bytes=512 duration=4.21ms first_byte=3.9ms pool=web server=10.0.0.1:8080 server_status=500 persistence=hit binding_source=memory bound=10.0.0.2:80 tried=2 given_up=refused network_rule=n connection_limit=connections.max security_rule=s request_rule=r response_rule=p monitored.rule=dry monitored.action=close monitored.rule=run monitored.action=reset significant="status 4xx, another server tried" log="[one\ntwo]" script.name=stick script.event=HTTP_REQ script.error="oh no" script.traceback=stack error=fault header.Accept="[a b]" header.X=[c] suppressed=3
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

// A log whose queue is closed has another one in its place.
func TestLineMovesToNextLog(t *testing.T) {
	var first, second bytes.Buffer
	queues := []*logqueue.Queue{logqueue.New(&first), logqueue.New(&second)}
	if err := queues[0].Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	h := accesslog.NewHandler(slog.DiscardHandler)
	s := &snapshot{Config: Config{Logger: slog.New(h)}, records: h}
	old := accesslog.NewLog(accesslog.Log{Format: accesslog.JSON, Queue: queues[0]})
	h.Use(old)
	lineOfTest().log(t.Context(), s, old) // lost, since there is none
	h.Use(accesslog.NewLog(accesslog.Log{Format: accesslog.Combined, Queue: queues[1]}))
	lineOfTest().log(t.Context(), s, old)
	if err := queues[1].Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if first.Len() > 0 || !strings.HasPrefix(second.String(), "192.0.2.7 - - [") {
		t.Errorf("%q, %q", first.String(), second.String())
	}
}

// A line of JSON costs two allocations at most.
func TestLineAllocates(t *testing.T) {
	if testrace.Enabled {
		t.Skip("the race detector allocates itself")
	}
	for _, format := range []accesslog.Format{accesslog.JSON, accesslog.Combined, accesslog.VCombined} {
		l, log := lineOfTest(), logOfTest(format)
		l.fields = log.Fields
		if n := testing.AllocsPerRun(1000, func() { _ = l.write(t.Context(), log) }); n > 2 {
			t.Errorf("%v: %v allocations", format, n)
		}
		if err := log.Queue.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// A line of JSON costs the request's goroutine 1.5 µs at most; the test allows
// three times as much.
func TestLineCost(t *testing.T) {
	if testrace.Enabled {
		t.Skip("the race detector slows lines down")
	}
	const lines, most = 1000, 1500 * time.Nanosecond
	l, log := lineOfTest(), logOfTest(accesslog.JSON)
	l.fields = log.Fields
	took := cputime.Least(50, lines*most, func() {
		for range lines {
			_ = l.write(t.Context(), log)
		}
	})
	if err := log.Queue.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("%v a line", took/lines)
	if took > 3*lines*most {
		t.Errorf("%v a line", took/lines)
	}
}

// logOfTest is a log that is written to nowhere.
func logOfTest(format accesslog.Format) *accesslog.Log {
	q := logqueue.New(discard{})
	q.Start()
	return accesslog.NewLog(accesslog.Log{Format: format, Fields: accesslog.FieldsOf([]accesslog.Field{accesslog.UserAgent}), Queue: q})
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

func BenchmarkRecordLine(b *testing.B) {
	for _, format := range []accesslog.Format{accesslog.Text, accesslog.JSON, accesslog.Combined, accesslog.Avi} {
		b.Run(format.String(), func(b *testing.B) {
			l, log := lineOfTest(), logOfTest(format)
			defer log.Queue.Close(b.Context())
			l.fields = log.Fields
			ctx := b.Context()
			b.ReportAllocs()
			for b.Loop() {
				_ = l.write(ctx, log)
			}
		})
	}
}
