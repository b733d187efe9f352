package acceptance_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/testrace"
)

// A stuckOutput is an output that stands still until it is opened.
type stuckOutput struct {
	entered chan struct{} // a place for each write that has begun
	open    chan struct{}

	mu   sync.Mutex
	text bytes.Buffer
	max  int // the longest write
}

func newStuckOutput() *stuckOutput {
	return &stuckOutput{entered: make(chan struct{}, 1<<16), open: make(chan struct{})}
}

func (g *stuckOutput) Write(p []byte) (int, error) {
	g.entered <- struct{}{}
	<-g.open
	g.mu.Lock()
	defer g.mu.Unlock()
	g.max = max(g.max, len(p))
	return g.text.Write(p)
}

func (g *stuckOutput) String() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.text.String()
}

func putLine(t *testing.T, w io.Writer, line string) {
	t.Helper()
	if n, err := io.WriteString(w, line); n != len(line) || err != nil {
		t.Fatalf("Write(%q) = %d, %v", line, n, err)
	}
}

func closeQueue(t *testing.T, q *limpet.LogQueue) {
	t.Helper()
	if err := q.Close(t.Context()); err != nil {
		t.Errorf("Close: %v", err)
	}
}

func TestLogQueueKeepsOrder(t *testing.T) {
	var out bytes.Buffer
	q := limpet.NewLogQueue(&out)
	var want strings.Builder
	for i := range 1000 {
		line := fmt.Sprintf("line %d\n", i)
		putLine(t, q, line)
		want.WriteString(line)
	}
	putLine(t, q, "no line feed")
	putLine(t, q, "")
	want.WriteString("no line feed\n")
	closeQueue(t, q)
	if out.String() != want.String() || q.Dropped() != 0 {
		t.Errorf("%d dropped, %d bytes of %d", q.Dropped(), out.Len(), want.Len())
	}
	if n, err := q.Write([]byte("late\n")); n != 0 || err == nil {
		t.Errorf("Write after Close = %d, %v", n, err)
	}
	closeQueue(t, q)
}

// An output that stands still, as a pipe whose reader has stopped, holds
// nobody up, takes bounded memory, and learns afterwards what it missed.
func TestLogOutputStandsStill(t *testing.T) {
	for name, c := range map[string]struct {
		lines, bytes int // limits
		line         string
		want         int // lines that have a place
	}{
		"lines":               {1000, 1 << 20, "a\n", 1000 - 256},
		"bytes":               {1 << 20, 1 << 20, strings.Repeat("a", 1023) + "\n", 1024 - 64},
		"small limits":        {1, 1, "a\n", 512 - 256},
		"line without an end": {1000, 1 << 20, "a", 1000 - 256},
	} {
		t.Run(name, func(t *testing.T) {
			out := newStuckOutput()
			q := limpet.NewLogQueue(out)
			q.Limit(c.lines, c.bytes)
			putLine(t, q, c.line)
			<-out.entered
			const sent = 5000
			for range sent - 1 {
				putLine(t, q, c.line)
			}
			if got := sent - int(q.Dropped()); got != c.want {
				t.Errorf("%d lines have a place, want %d", got, c.want)
			}
			close(out.open)
			closeQueue(t, q)
			told := fmt.Sprintf("level=WARN msg=\"log lines dropped\" n=%d\n", sent-c.want)
			whole := strings.TrimSuffix(c.line, "\n") + "\n"
			if text := out.String(); strings.Count(text, "log lines dropped") != 1 || !strings.Contains(text, told) || strings.Count("\n"+text, "\n"+whole) < c.want/2 ||
				strings.Count(text, "\n") != c.want+1 {
				t.Errorf("%d lines, want %d and %q in:\n%.300s", strings.Count(text, "\n"), c.want, told, text)
			}
		})
	}
}

func TestLogQueueKeepsErrors(t *testing.T) {
	out := newStuckOutput()
	q := limpet.NewLogQueue(out)
	q.Limit(1000, 1<<20)
	log := slog.New(q.Handler(func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, nil) })).With("vs", "shop").WithGroup("g")
	log.Info("request")
	<-out.entered
	for range 2000 {
		log.Info("request")
	}
	for range 300 {
		log.Error("fault", "k", 1)
	}
	close(out.open)
	closeQueue(t, q)
	text := out.String()
	if got := strings.Count(text, `"level":"ERROR","msg":"fault","vs":"shop","g":{"k":1}}`); got != 256 {
		t.Errorf("%d errors, want 256", got)
	}
	if got := strings.Count(text, `"msg":"request"`); got != 1000-256 {
		t.Errorf("%d other lines", got)
	}
	if want := fmt.Sprintf(`"level":"WARN","msg":"log lines dropped","n":%d}`, 2001-744+300-256); strings.Count(text, want) != 1 {
		t.Errorf("no %s in the end: %s", want, text[max(0, len(text)-300):])
	}
}

func TestLogQueueWritesBatches(t *testing.T) {
	out := newStuckOutput()
	q := limpet.NewLogQueue(out)
	putLine(t, q, "first\n")
	<-out.entered
	for i := range 10_000 {
		putLine(t, q, fmt.Sprintf("%060d\n", i))
	}
	putLine(t, q, strings.Repeat("a", 100_000)+"\n")
	putLine(t, q, "last\n")
	close(out.open)
	closeQueue(t, q)
	if writes, atLeast := len(out.entered), 61*10_000/65_536; writes < atLeast || writes > 2*atLeast+4 {
		t.Errorf("%d writes, want about %d", writes+1, atLeast)
	}
	if out.max != 100_001 {
		t.Errorf("the longest write has %d bytes; the longest line has 100,001", out.max)
	}
	if !strings.HasSuffix(out.String(), "a\nlast\n") || q.Dropped() != 0 {
		t.Errorf("%d dropped", q.Dropped())
	}
}

// An end must not wait for an output that stands still.
func TestLogQueueCloses(t *testing.T) {
	out := newStuckOutput()
	q := limpet.NewLogQueue(out)
	putLine(t, q, "a\n")
	<-out.entered
	putLine(t, q, "b\n")
	putLine(t, q, "c\n")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 2 {
		if err := q.Close(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Close = %v", err)
		}
	}
	if n := q.Dropped(); n != 3 {
		t.Errorf("%d lines are lost, want 3", n)
	}
	close(out.open)
	closeQueue(t, q)
	if out.String() != "a\n" {
		t.Errorf("written: %q", out.String())
	}
}

// Each line of many writers is written whole and in its writer's order, or is
// counted as dropped.
func TestLogQueueTearsNoLine(t *testing.T) {
	const writers, lines = 8, 20_000
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	text := make(chan []byte)
	go func() {
		all, _ := io.ReadAll(r)
		text <- all
	}()
	q := limpet.NewLogQueue(w)
	q.Limit(2000, 1<<16)
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			for n := range lines {
				fmt.Fprintf(q, "%d %d %s\n", i, n, strings.Repeat("x", n%50))
			}
		})
	}
	wg.Wait()
	closeQueue(t, q)
	w.Close()
	all := <-text
	r.Close()
	written, told := 0, uint64(0)
	last := [writers]int{}
	for line := range strings.Lines(string(all)) {
		if _, after, ok := strings.Cut(line, "log lines dropped\" n="); ok {
			n, err := strconv.ParseUint(strings.TrimSpace(after), 10, 64)
			if err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			told += n
			continue
		}
		var i, n int
		var x string
		if _, err := fmt.Sscanf(line, "%d %d %s", &i, &n, &x); err != nil && n%50 != 0 || len(x) != n%50 {
			t.Fatalf("a torn line: %q", line)
		}
		if n < last[i] {
			t.Fatalf("line %d of writer %d comes after %d", n, i, last[i])
		}
		last[i] = n
		written++
	}
	if got := uint64(written) + q.Dropped(); got != writers*lines || told != q.Dropped() {
		t.Errorf("%d written and %d dropped (%d told) of %d", written, q.Dropped(), told, writers*lines)
	}
}

func TestLogQueueAllocates(t *testing.T) {
	q := limpet.NewLogQueue(io.Discard)
	defer closeQueue(t, q)
	line := []byte("a line of usual length\n")
	if n := testing.AllocsPerRun(1000, func() { q.Write(line) }); n > 0 && !testrace.Enabled {
		t.Errorf("Write: %v allocations", n)
	}
	log := slog.New(q.Handler(func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, nil) }))
	if n := testing.AllocsPerRun(1000, func() { log.LogAttrs(t.Context(), slog.LevelInfo, "request", slog.String("vs", "shop")) }); n > 2 && !testrace.Enabled {
		t.Errorf("a line of JSON: %v allocations", n)
	}
}

func BenchmarkLogQueue(b *testing.B) {
	q := limpet.NewLogQueue(io.Discard)
	defer q.Close(b.Context())
	log := slog.New(q.Handler(func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, nil) }))
	b.ReportAllocs()
	for b.Loop() {
		log.LogAttrs(b.Context(), slog.LevelInfo, "request", slog.String("vs", "shop"), slog.String("client", "192.0.2.7"), slog.Int("status", 200))
	}
}

// Whatever is lost is told at the end, if not before: a line that is longer
// than the queue, and the last one if the output has failed.
func TestLogQueueTellsAtTheEnd(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		out  *failingOnce
		line string
	}{
		"longer than the queue": {&failingOnce{failed: true}, strings.Repeat("a", 17<<20) + "\n"},
		"output fails":          {&failingOnce{}, "a\n"},
	} {
		t.Run(name, func(t *testing.T) {
			q := limpet.NewLogQueue(c.out)
			putLine(t, q, c.line)
			closeQueue(t, q)
			if text := c.out.text.String(); q.Dropped() != 1 || !strings.Contains(text, `level=WARN msg="log lines dropped" n=1`) {
				t.Errorf("%d dropped, written: %.200q", q.Dropped(), text)
			}
		})
	}
}

type failingOnce struct {
	failed bool
	text   bytes.Buffer
}

func (f *failingOnce) Write(p []byte) (int, error) {
	if !f.failed {
		f.failed = true
		return 0, io.ErrShortWrite
	}
	return f.text.Write(p)
}

// A queue without limits dropped every line that is no error.
func TestLogQueueWithoutLimits(t *testing.T) {
	var out bytes.Buffer
	q := limpet.NewLogQueue(&out)
	q.Limit(math.MaxInt, math.MaxInt)
	putLine(t, q, "a\n")
	closeQueue(t, q)
	if out.String() != "a\n" || q.Dropped() != 0 {
		t.Errorf("%q, %d dropped", out.String(), q.Dropped())
	}
}
