package datascripttest

import (
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet/datascript"
)

const branches = `-- HTTP_REQ
if avi.http.get_path() == "/a" then
  avi.vs.log("a")

  avi.vs.log("still a")
else
  avi.vs.log("b")
end
function later() avi.vs.log("later") end
-- HTTP_RESP
if avi.http.status() == "404" then
  later()
end
`

// cover takes a request for a path through a script, compiled anew.
func cover(t *testing.T, c *Coverage, path string) {
	t.Helper()
	vs := &VirtualService{Scripts: []*datascript.Script{Compile(t, "Branches", datascript.Chunk{Source: branches})}, Coverage: c}
	Run(t, vs, httptest.NewRequest("GET", path, nil))
}

func TestCoverage(t *testing.T) {
	var c Coverage
	if got := c.Percent(); got != 100 {
		t.Errorf("nothing is covered to %v percent", got)
	}
	cover(t, &c, "/b")
	want := []EventCoverage{
		{Script: "Branches", Event: datascript.HTTPReq, Lines: 5, Missed: []int{3, 5}},
		{Script: "Branches", Event: datascript.HTTPResp, Lines: 2, Missed: []int{12}},
	}
	if diff := cmp.Diff(want, c.Events()); diff != "" {
		t.Errorf("after /b (-want +got):\n%s", diff)
	}
	const report = ` 60.0%  Branches HTTP_REQ: not run: line:3,5
 50.0%  Branches HTTP_RESP: not run: line:12
 57.1%  of 7 lines
`
	if diff := cmp.Diff(report, c.String()); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}

	// The same source, compiled once more, is the same script.
	cover(t, &c, "/a")
	cover(t, &c, "/a")
	want[0].Missed = nil
	if diff := cmp.Diff(want, c.Events()); diff != "" {
		t.Errorf("after /a (-want +got):\n%s", diff)
	}
	var b strings.Builder
	if err := c.WriteLCOV(&b); err != nil {
		t.Fatal(err)
	}
	const lcov = "TN:\nSF:Branches\nDA:2,5\nDA:3,2\nDA:5,2\nDA:7,1\nDA:9,3\nDA:11,3\nDA:12,0\nLF:7\nLH:6\nend_of_record\n"
	if diff := cmp.Diff(lcov, b.String()); diff != "" {
		t.Errorf("lcov (-want +got):\n%s", diff)
	}
	if err := c.WriteLCOV(full{}); !errors.Is(err, errFull) {
		t.Errorf("a writer's error becomes %v", err)
	}
}

type full struct{}

var errFull = errors.New("full")

func (full) Write([]byte) (int, error) { return 0, errFull }

// A script of another source is another script, even of the same name; and a
// script that an engine runs unannounced counts.
func TestCoverageSources(t *testing.T) {
	var c Coverage
	c.Add(Compile(t, "S", datascript.Chunk{Event: datascript.HTTPReq, Source: "a = 1"}), "s.lua")
	c.Add(Compile(t, "S", datascript.Chunk{Event: datascript.HTTPReq, Source: "a = 1\nb = 2"}), "")
	unannounced := Compile(t, "U", datascript.Chunk{Event: datascript.HTTPReq, Source: "a = 1"})
	e, err := datascript.NewEngine(datascript.Env{Trace: c.Trace})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Run(t.Context(), unannounced, datascript.HTTPReq, &Transaction{}); err != nil {
		t.Fatal(err)
	}
	const report = "  0.0%  S HTTP_REQ: not run: s.lua:1\n  0.0%  S HTTP_REQ: not run: line:1-2\n100.0%  U HTTP_REQ\n 25.0%  of 4 lines\n"
	if diff := cmp.Diff(report, c.String()); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}

func TestCoverageConcurrent(t *testing.T) {
	var c Coverage
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 5 {
				cover(t, &c, "/a")
			}
		})
	}
	wg.Wait()
	var b strings.Builder
	_ = c.WriteLCOV(&b)
	if !strings.Contains(b.String(), "DA:3,20\n") {
		t.Errorf("line 3 ran 20 times:\n%s", b.String())
	}
}

// Cases with the same script add up, and their lines are those of the file that
// came first.
func TestRunFilesCoverage(t *testing.T) {
	dir := t.TempDir()
	const head = "A case.\n\n-- listing.lua --\n" + branches + "-- request --\nGET "
	for name, path := range map[string]string{"1.txtar": "/b", "2.txtar": "/a"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(head+path+" HTTP/1.1\nHost: a\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var c Coverage
	RunFiles(t, filepath.Join(dir, "1.txtar"), Options{Coverage: &c})
	first := filepath.Join(dir, "1.txtar")
	want := []EventCoverage{
		{Script: "1", Event: datascript.HTTPReq, File: first, Lines: 5, Missed: []int{6, 8}},
		{Script: "1", Event: datascript.HTTPResp, File: first, Lines: 2, Missed: []int{15}},
	}
	if diff := cmp.Diff(want, c.Events()); diff != "" {
		t.Errorf("after the first (-want +got):\n%s", diff)
	}
	RunFiles(t, filepath.Join(dir, "2.txtar"), Options{Coverage: &c})
	want[0].Missed = nil
	if diff := cmp.Diff(want, c.Events()); diff != "" {
		t.Errorf("after the second (-want +got):\n%s", diff)
	}

	t.Setenv(CoverVariable, "1")
	var rec recorder
	RunFiles(&rec, filepath.Join(dir, "2.txtar"), Options{})
	if len(rec.logs) != 1 || !strings.Contains(rec.logs[0], " 80.0%  2 HTTP_REQ: not run: "+filepath.Join(dir, "2.txtar")+":10\n") {
		t.Errorf("logged: %q, errors: %q", rec.logs, rec.errors)
	}
	t.Setenv(CoverVariable, "maybe")
	RunFiles(&rec, filepath.Join(dir, "2.txtar"), Options{})
	if len(rec.fatals) != 1 || !strings.Contains(rec.fatals[0], `DATASCRIPTTEST_COVER: "maybe"`) {
		t.Errorf("fatal errors: %q", rec.fatals)
	}
}
