package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/testwait"
)

func mustAddr(text string) netip.Addr { return netip.MustParseAddr(text) }

// A feed is a stream of events.
type feed struct {
	t      testing.TB
	events chan [2]string // kind and data
	ids    chan string
}

// listen opens a stream that goes on after an id.
func (b *bench) listen(path, after string) *feed {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, err := http.NewRequestWithContext(ctx, "GET", "http://admin"+path, nil)
	must(b.t, err)
	if after != "" {
		r.Header.Set("Last-Event-ID", after)
	}
	resp, err := b.unix.Do(r)
	must(b.t, err)
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		b.t.Fatalf("%d", resp.StatusCode)
	}
	f := &feed{b.t, make(chan [2]string, 4096), make(chan string, 4096)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		var kind string
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch name {
			case "id":
				f.ids <- value
			case "event":
				kind = value
			case "data":
				f.events <- [2]string{kind, value}
			}
		}
		close(f.events)
	}()
	b.t.Cleanup(func() { cancel(); <-done; resp.Body.Close() })
	return f
}

// wait returns the data of the next event of a kind.
func (f *feed) wait(kind string) string {
	f.t.Helper()
	for {
		if e := testwait.Receive(f.t, f.events, "event "+kind); e[0] == kind {
			return e[1]
		} else if e[0] == "" {
			f.t.Fatalf("the stream ended before %s", kind)
		}
	}
}

// TestLogs: a stream has the records that fit, in order, with ids after which
// it can go on.
func TestLogs(t *testing.T) {
	b := newBench(t, setup{})
	all := b.listen(shop+"/logs", "")
	denied := b.listen(shop+"/logs?significant=1&status=4xx&path=/den&client=127.0.0.0/8&rule=secret", "")
	none := b.listen(shop+"/logs?server=nobody", "")
	record := func(f *feed) (v recordView) {
		t.Helper()
		must(t, json.Unmarshal([]byte(f.wait("record")), &v))
		return v
	}
	b.visit("/a?secret=1")
	if v := record(all); v.Path != "/a" || v.Status != 200 || v.ID != 0 || v.Pool != "web" {
		t.Errorf("%+v", v)
	}
	for range 2 {
		b.visit("/denied")
		if v := record(denied); v.Path != "/denied" || v.SecurityRule != "secret" || v.ID == 0 {
			t.Errorf("%+v", v)
		}
	}
	if len(none.events) != 0 {
		t.Errorf("%v", <-none.events)
	}
	id := testwait.Receive(t, denied.ids, "id")
	again := b.listen(shop+"/logs", id)
	if v := record(again); v.ID != 2 {
		t.Errorf("after %s: %+v", id, v)
	}
	for query, status := range map[string]int{"status=9x": 400, "client=x": 400, "significant=2": 400, "x=1": 400} {
		if a := b.do("GET", shop+"/logs?"+query, ""); a.status != status {
			t.Errorf("%s: %d %s", query, a.status, a.body)
		}
	}
}

// TestStreamsEnd: at most sixteen streams are open; they end with Run, and
// without it there are none.
func TestStreamsEnd(t *testing.T) {
	b := newBench(t, setup{without: true})
	if a := b.do("GET", "/v1/events", ""); a.status != 503 {
		t.Errorf("without Run: %d %s", a.status, a.body)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- b.adm.Run(ctx) }()
	testwait.Until(t, "Run", func() bool { return b.adm.live.ended() != nil })
	if err := b.adm.Run(ctx); err != limpet.ErrRunning {
		t.Errorf("a second Run: %v", err)
	}
	var feeds []*feed
	for i := range maxStreams {
		feeds = append(feeds, b.listen([]string{"/v1/events", "/v1/live"}[i%2], ""))
	}
	if a := b.do("GET", "/v1/live", ""); a.status != 429 {
		t.Errorf("one stream more: %d %s", a.status, a.body)
	}
	feeds[1].wait("status")
	cancel()
	must(t, testwait.Receive(t, ended, "end of Run"))
	for _, f := range feeds {
		for range f.events {
		}
	}
}

// TestHub: a subscriber that does not read delays nobody, and is told how many
// messages it has missed; the ring stays within its bounds.
func TestHub(t *testing.T) {
	h := newHub(4, 100)
	s, missed, stop := h.subscribe(0, true, func(m message) bool { return m.event == "a" })
	defer stop()
	if len(missed) != 0 {
		t.Errorf("%v", missed)
	}
	const n = queueLength + 10
	for range n {
		h.publish("a", nil, 30, true)
		h.publish("b", nil, 0, false)
	}
	if got := uint64(len(s.queue)) + s.dropped.Load(); got != n || len(s.queue) != queueLength {
		t.Errorf("%d queued, %d dropped", len(s.queue), s.dropped.Load())
	}
	if got := h.kept(); len(got) != 3 || got[0].id != n {
		t.Errorf("%v", got)
	}
	for after, want := range map[uint64]int{n - 1: 1, n: 0, n + 5: 3} {
		_, missed, stop := h.subscribe(after, true, func(message) bool { return true })
		stop()
		if len(missed) != want {
			t.Errorf("after %d: %v", after, missed)
		}
	}
}

// TestRecordBounds: long texts of clients are cut, so that the ring stays
// small.
func TestRecordBounds(t *testing.T) {
	v := viewRecord(&limpet.Record{Path: strings.Repeat("é", maxText), Log: make([]string, 100), Start: time.Now()})
	if len(v.Path) > maxText+8 || !strings.HasSuffix(v.Path, "é…") || len(v.Log) > 16 || v.size() > 4096 {
		t.Errorf("%d bytes, %q", v.size(), v.Path[maxText-8:])
	}
}
