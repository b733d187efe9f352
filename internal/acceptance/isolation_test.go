package acceptance_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/lbpool"
)

// Each of these scripts looks for what another transaction, or the other
// script, may have left behind, and then leaves something behind itself.
const (
	isolationA = `-- HTTP_REQ
if id ~= nil or avi.vs.reqvar.id ~= nil or string.left ~= nil then
   avi.vs.log("leak: ", id, avi.vs.reqvar.id, string.left)
end
id = avi.http.get_header("X-Id")
string.left = id
avi.vs.reqvar.id = id
avi.http.replace_header("X-Seen", id)

-- HTTP_RESP
avi.http.add_header("X-Global", id)
avi.http.add_header("X-Reqvar", avi.vs.reqvar.id .. avi.vs.reqvar.second)
`
	isolationB = `-- HTTP_REQ
if id ~= nil or avi.vs.reqvar.second ~= nil then
   avi.vs.log("leak: ", id, avi.vs.reqvar.second)
end
id = "b" .. avi.vs.reqvar.id
avi.vs.reqvar.second = id

-- HTTP_RESP
avi.http.add_header("X-Second", id)
`
)

// TestIsolation lets 64 transactions overlap: all are past their request
// event when the first comes to its response event.
func TestIsolation(t *testing.T) {
	const clients, rounds = 64, 4
	type held struct {
		id      string
		release chan struct{}
	}
	arrived := make(chan held, clients)
	pool := poolFor(t, func(w http.ResponseWriter, r *http.Request) {
		h := held{r.Header.Get("X-Seen"), make(chan struct{})}
		arrived <- h
		select {
		case <-h.release:
		case <-r.Context().Done():
		}
		fmt.Fprint(w, h.id)
	})
	recs := newRecords()
	vs, site := serve(t, http1, limpet.Config{
		Pools:      []*lbpool.Pool{pool},
		Scripts:    []limpet.Script{compile(t, "A", isolationA), compile(t, "B", isolationB)},
		OnComplete: recs.add,
	})

	var wg sync.WaitGroup
	for i := range clients {
		c := site.client(t)
		wg.Go(func() {
			for round := range rounds {
				id := fmt.Sprintf("%d-%d", i, round)
				r := newRequest(t, "GET", site.URL, nil)
				r.Header.Set("X-Id", id)
				res, body, err := try(c, r)
				if err != nil {
					t.Error(err)
					return
				}
				got := strings.Join([]string{
					body, res.Header.Get("X-Global"), res.Header.Get("X-Reqvar"), res.Header.Get("X-Second"),
				}, " ")
				if want := strings.Join([]string{id, id, id + "b" + id, "b" + id}, " "); got != want {
					t.Errorf("transaction %s saw %q, want %q", id, got, want)
				}
			}
		})
	}
	for range rounds {
		var all []held
		for range clients {
			all = append(all, testwait.Receive(t, arrived, "a request"))
		}
		for i := range all {
			close(all[len(all)-1-i].release) // the last one first
		}
	}
	wg.Wait()
	for _, r := range recs.take(t, clients*rounds) {
		if len(r.Log) > 0 || len(r.ScriptErrors) > 0 || r.Status != http.StatusOK {
			t.Errorf("status %d, log %q, errors %v", r.Status, r.Log, r.ScriptErrors)
		}
	}
	if st := vs.Stats().Scripts; st.Runs != clients*rounds*4 || st.Failures != 0 {
		t.Errorf("engine: %+v", st)
	}
}
