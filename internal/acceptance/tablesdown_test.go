package acceptance_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"testing"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence/redisstore"
)

// TestTablesDown has tables on a server that cannot be reached: one that
// clients stick by, which fails open, and one of logins, which fails closed.
func TestTablesDown(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nowhere := ln.Addr().String()
	ln.Close()
	store, err := redisstore.New(redisstore.Config{
		Addresses:      []string{nowhere},
		TablesWhenDown: map[string]redisstore.WhenDown{"logins": redisstore.FailClosed},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	const script = `
-- HTTP_REQ --
if avi.http.get_path() == "/account" and not avi.vs.table_lookup("logins", "alice") then
   avi.http.response(403)
end
client = avi.http.get_header("X-Client")
server = avi.vs.table_lookup(client)
if server then avi.pool.select("my_pool", server) end

-- HTTP_RESP --
if not server then avi.vs.table_insert(client, avi.pool.server_ip()) end`
	open := compile(t, "fails open itself", script)
	open.OnError = limpet.FailOpen
	for _, test := range []struct {
		name   string
		script limpet.Script
		path   string
		status int
	}{
		{"stickiness", compile(t, "tables", script), "/", http.StatusOK},
		{"logins", compile(t, "tables", script), "/account", http.StatusServiceUnavailable},
		{"logins, for a script that fails open", open, "/account", http.StatusOK},
	} {
		t.Run(test.name, func(t *testing.T) {
			recs := newRecords()
			_, site := serve(t, http1, limpet.Config{
				Pools: []*lbpool.Pool{poolOf(t, startServers(t, 3)...)}, Tables: store,
				Scripts: []limpet.Script{test.script}, OnComplete: recs.add,
			})
			client := &http.Client{Transport: site.transport(t), Timeout: testwait.Limit}
			var first string
			for range 100 {
				r, err := http.NewRequestWithContext(t.Context(), "GET", site.URL+test.path, nil)
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("X-Client", test.name)
				res, err := client.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(res.Body)
				res.Body.Close()
				if err != nil || res.StatusCode != test.status {
					t.Fatalf("%s, %v, want %d", res.Status, err, test.status)
				}
				if first == "" {
					first = string(body)
				} else if string(body) != first && test.path == "/" {
					t.Fatalf("went to %q, and before to %q", body, first)
				}
				rec := recs.next(t)
				failed := slices.ContainsFunc(rec.ScriptErrors, func(err *datascript.RuntimeError) bool {
					return errors.Is(err, redisstore.ErrUnavailable)
				})
				if failed != (test.path == "/account") {
					t.Fatalf("the record says %v", rec.ScriptErrors)
				}
			}
			client.CloseIdleConnections()
		})
	}
}
