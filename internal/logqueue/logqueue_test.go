package logqueue

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A failing is an output whose writes fail in turns.
type failing struct {
	text  bytes.Buffer
	turns []int // bytes of each write that arrive before it fails; -1: all, without an error; -2: it panics
}

func (f *failing) Write(p []byte) (int, error) {
	n := -1
	if len(f.turns) > 0 {
		n, f.turns = f.turns[0], f.turns[1:]
	}
	switch n {
	case -2:
		panic("the output panics")
	case -1:
		return f.text.Write(p)
	}
	n = min(n, len(p))
	f.text.Write(p[:n])
	return n, io.ErrShortWrite
}

// A full disk loses lines, never joins two halves to one, and is reported
// afterwards.
func TestOutputFails(t *testing.T) {
	for name, c := range map[string]struct {
		turns []int
		want  string // DROPPED n stands for the line that reports them
	}{
		"nothing of a line":      {[]int{0}, "b\nDROPPED 1\nc\n"},
		"half a line":            {[]int{1}, "a\nb\nDROPPED 1\nc\n"},
		"half, and no line feed": {[]int{1, 0}, "a\nc\nDROPPED 2\n"},
		"reported later":         {[]int{0, -1, 0}, "b\nc\nDROPPED 1\n"},
		"half of the report":     {[]int{0, -1, 4}, "b\ntime\nc\nDROPPED 1\n"},
		"a panic":                {[]int{-2}, "b\nDROPPED 1\nc\n"},
	} {
		t.Run(name, func(t *testing.T) {
			out := &failing{turns: c.turns}
			q := New(out)
			for _, line := range []string{"aa\n", "b\n", "c\n"} {
				q.lines, q.bytes = q.lines+1, q.bytes+len(line)
				q.write([]byte(line))
			}
			var got strings.Builder
			for line := range strings.Lines(out.text.String()) {
				if _, n, ok := strings.Cut(line, `level=WARN msg="log lines dropped" n=`); ok {
					line = "DROPPED " + n
				}
				got.WriteString(line)
			}
			if got.String() != c.want || !strings.Contains(c.want, fmt.Sprintf("DROPPED %d\n", q.Dropped())) {
				t.Errorf("got %q, %d dropped; want %q", got.String(), q.Dropped(), c.want)
			}
			if q.lines != 0 || q.bytes != 0 {
				t.Errorf("%d lines and %d bytes are left", q.lines, q.bytes)
			}
		})
	}
}

// A queue that is not started keeps lines, and drops what is beyond its limits;
// so does one that was stopped.
func TestStartAndStop(t *testing.T) {
	var out bytes.Buffer
	q := New(&out)
	q.Limit(MinLines, MinBytes)
	put := func(from, to int) {
		for i := from; i < to; i++ {
			fmt.Fprintf(q, "%d\n", i)
		}
	}
	const most = MinLines - reservedLines
	put(0, most+5)
	if q.Dropped() != 5 || out.Len() != 0 {
		t.Errorf("%d dropped, written: %q", q.Dropped(), out.String())
	}
	stop := func(last string) {
		t.Helper()
		if err := q.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(out.String(), last) {
			t.Errorf("the end is %q, not %q", out.String()[max(0, out.Len()-100):], last)
		}
	}
	q.Start()
	q.Start()
	stop("log lines dropped\" n=5\n")
	put(1000, 1003)
	if strings.Contains(out.String(), "1000") {
		t.Error("written after the stop")
	}
	q.Start()
	put(2000, 2001)
	stop("\n1000\n1001\n1002\n2000\n")
	put(3000, 3001)
	if err := q.Close(t.Context()); err != nil || !strings.HasSuffix(out.String(), "\n3000\n") {
		t.Errorf("%v, %q", err, out.String())
	}
	if err := q.Put([]byte("a\n"), true); err != ErrClosed {
		t.Errorf("after Close: %v", err)
	}
	if n := strings.Count(out.String(), "\n"); n != most+1+3+1+1 {
		t.Errorf("%d lines", n)
	}
}

// Lines of many goroutines survive stops and starts.
func TestStopsAmongLines(t *testing.T) {
	var out bytes.Buffer
	q := New(&out)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 1000 {
				io.WriteString(q, "a\n")
			}
		})
	}
	for range 50 {
		q.Start()
		if err := q.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	if err := q.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "a\n"); n != 4000 || q.Dropped() != 0 {
		t.Errorf("%d lines, %d dropped", n, q.Dropped())
	}
}

// A handler that writes nothing of what was dropped has reported it elsewhere.
func TestToldElsewhere(t *testing.T) {
	var out, elsewhere bytes.Buffer
	q := New(&out)
	q.Told(func(io.Writer) slog.Handler { return slog.NewJSONHandler(&elsewhere, nil) })
	q.Put(bytes.Repeat([]byte("a"), DefaultBytes+1), true)
	if err := q.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if out.Len() > 0 || !strings.Contains(elsewhere.String(), `"msg":"log lines dropped","n":1}`) {
		t.Errorf("written %q, elsewhere %q", out.String(), elsewhere.String())
	}
}
