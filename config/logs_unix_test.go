//go:build unix

package config

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/limpetlb/limpet/internal/testwait"
)

// toldDropped is how many lines are said to be dropped.
func toldDropped(text string) (n int) {
	for _, m := range regexp.MustCompile(`log lines dropped.*n"?[=:](\d+)`).FindAllStringSubmatch(text, -1) {
		k, _ := strconv.Atoi(m[1])
		n += k
	}
	return n
}

// A pipe that nobody reads delays neither requests nor the end. What is lost is
// counted, and reported when somebody reads.
func TestLogPipe(t *testing.T) {
	t.Parallel()
	const requests = 5000
	for _, format := range []string{"text", "json", "combined"} {
		t.Run(format, func(t *testing.T) {
			pipe := filepath.Join(t.TempDir(), "pipe")
			if err := syscall.Mkfifo(pipe, 0o600); err != nil {
				t.Fatal(err)
			}
			text := teapot + fmt.Sprintf("logs: {output: p.log}\naccessLog: {output: %s, format: %s, queueLines: 512}\n", pipe, format)
			h := open(t, map[string]string{"limpet.yaml": text}, Options{})
			for i := range requests {
				h.visit("limpet", fmt.Sprint("/", i))
			}
			file, err := os.Open(pipe)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			var lines, reported atomic.Int64
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				for s := bufio.NewScanner(file); s.Scan(); {
					if n := toldDropped(s.Text()); n > 0 {
						reported.Add(int64(n))
						if format == "combined" {
							t.Errorf("no line like Apache's: %s", s.Text())
						}
					} else {
						lines.Add(1)
					}
				}
			}()
			testwait.Until(t, "lines and those that were dropped are all", func() bool {
				dropped := reported.Load() + int64(toldDropped(h.file("p.log")))
				return dropped > 0 && lines.Load()+dropped == requests
			})
			h.finish()
			testwait.Receive(t, ended, "end of the pipe")
		})
	}
}

// Nor does it delay the end.
func TestLogPipeAtTheEnd(t *testing.T) {
	t.Parallel()
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	h := open(t, map[string]string{"limpet.yaml": teapot + "logs: {output: " + pipe + "}\n"}, Options{})
	for range 2000 {
		h.visit("limpet", "/")
	}
	h.finish()
	if err := h.Reopen(); err != nil { // it is closed, and stays so
		t.Error(err)
	}
}
