package acceptance_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/persistence"
)

// heldTables delays the second look-up.
type heldTables struct {
	*persistence.Store
	mu            sync.Mutex
	lookups       int
	inside, leave chan struct{}
}

func (t *heldTables) Lookup(ctx context.Context, table, key string, extend time.Duration) (string, time.Duration, bool, error) {
	t.mu.Lock()
	t.lookups++
	held := t.lookups == 2
	t.mu.Unlock()
	if held {
		close(t.inside)
		<-t.leave
	}
	return "", 0, false, nil
}

// A goroutine that a handler leaves behind may be running a script when its
// request ends. The next request got the variables that this script set, with
// what they told about another client.
func TestScriptLeftBehind(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	compile := func(name string) limpet.Script {
		s, err := datascript.Compile(name,
			datascript.Chunk{Event: datascript.HTTPReq, Source: `id = avi.http.get_header("X-Id") slow = avi.http.get_header("X-Slow") v = id`},
			datascript.Chunk{Event: datascript.HTTPResp, Source: `if slow then local mine = id; avi.vs.table_lookup("x", 0); v = mine
elseif v ~= id then avi.vs.log("FOREIGN " .. tostring(v)) end`})
		if err != nil {
			t.Fatal(err)
		}
		return limpet.Script{Script: s}
	}
	tables := &heldTables{Store: persistence.NewStore(persistence.Options{}), inside: make(chan struct{}), leave: make(chan struct{})}
	left := make(chan struct{})
	recs := newRecords()
	h := newVirtualService(t, limpet.Config{
		Scripts: []limpet.Script{compile("one"), compile("two")}, Tables: tables, OnComplete: recs.add,
	}).Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Slow") != "" {
			go func() {
				defer close(left)
				w.WriteHeader(200)
			}()
			<-tables.inside
			return
		}
		close(tables.leave)
		<-left
	}))
	for _, id := range []string{"a", "b"} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("X-Id", id)
		if id == "a" {
			r.Header.Set("X-Slow", "1")
		}
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
	for _, rec := range recs.take(t, 2) {
		if lines := strings.Join(rec.Log, "\n"); strings.Contains(lines, "FOREIGN") {
			t.Error(lines)
		}
	}
}
