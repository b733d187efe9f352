package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/limpetlb/limpet/internal/testfiles"
)

// The command traces requests, as the configuration of now says, and exports
// the spans that are left when it ends.
func TestServeTraces(t *testing.T) {
	var spans atomic.Int64
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var message collector.ExportTraceServiceRequest
		if err != nil || proto.Unmarshal(body, &message) != nil || r.Header.Get("Authorization") != "Bearer x" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		for _, resource := range message.ResourceSpans {
			for _, scope := range resource.ScopeSpans {
				spans.Add(int64(len(scope.Spans)))
			}
		}
	}))
	defer receiver.Close()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Header.Get("Traceparent"))
	}))
	defer server.Close()
	pools := fmt.Sprintf("listen: 127.0.0.1:0\npools: [{name: web, servers: [{address: %s}]}]\n", server.Listener.Addr())
	traced := fmt.Sprintf("tracing: {endpoint: %q, sample: 1, headersFile: headers}\n", receiver.URL)
	dir := testfiles.Write(t, map[string]string{"limpet.yaml": pools + traced, "headers": "Authorization: Bearer x\n"})
	p := start(t, filepath.Join(dir, "limpet.yaml"))
	parent := strings.TrimPrefix(get(t, p.url), "200 ")
	if !regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-01$`).MatchString(parent) {
		t.Errorf("parent %q", parent)
	}
	p.await("trace_id=" + parent[min(3, len(parent)):min(35, len(parent))])
	if err := os.WriteFile(filepath.Join(dir, "limpet.yaml"), []byte(pools), 0o600); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGHUP)
	p.await("msg=\"configuration changed\"")
	if parent := strings.TrimPrefix(get(t, p.url), "200 "); parent != "" {
		t.Errorf("parent %q without tracing", parent)
	}
	p.end()
	if n := spans.Load(); n != 2 {
		t.Errorf("%d spans, want that of the request and that of the attempt", n)
	}
}
