package datascripttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/internal/filewatch"
)

// UpdateVariable is the environment variable that makes [RunFiles] write
// expectations: a value that is true in the sense of [strconv.ParseBool] does
// what Options.Update does. There is no flag, since flags are the test's own.
const UpdateVariable = "DATASCRIPTTEST_UPDATE"

// Options are for [RunFiles]. The zero value is fine.
type Options struct {
	// Update makes RunFiles rewrite the want sections of the case files instead
	// of comparing with them: it fills in those that are there, and adds those
	// that are missing and would not be empty. The rest of the files stays byte
	// for byte.
	Update bool
	// Limits bound each run of a script, as those of a [VirtualService] do.
	Limits datascript.Limits
	// Coverage counts which lines of the scripts have run; nil counts nothing,
	// and costs nothing, unless [CoverVariable] is set. The cases of several
	// calls may count into one.
	Coverage *Coverage
}

// RunFiles runs the cases in the files that match a pattern, in the sense of
// [filepath.Glob]; that there are none is a fatal error. The package
// documentation describes a case. If t is a [testing.T], each case is a subtest
// that has the name of its file without ".txtar". All failures name the file
// and the line. A file may be a pipe, such as a shell makes of <(command),
// unless it is to be updated; if t has a method Context, as a [testing.T] has,
// RunFiles waits for it until that ends.
func RunFiles(t Reporter, pattern string, o Options) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err == nil && len(files) == 0 {
		err = errors.New("no file matches")
	}
	if err != nil {
		t.Fatalf("%s: %v", pattern, err)
		return
	}
	update, err := environment(UpdateVariable)
	cover, coverErr := environment(CoverVariable)
	if err := errors.Join(err, coverErr); err != nil {
		t.Fatalf("%v", err)
		return
	}
	o.Update = o.Update || update
	if cover && o.Coverage == nil {
		o.Coverage = &Coverage{}
		defer func() { t.Logf("coverage of the scripts in %s:\n%v", pattern, o.Coverage) }()
	}
	for _, file := range files {
		if tt, ok := t.(*testing.T); ok {
			tt.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
				t.Helper()
				runFile(t, file, o)
			})
		} else {
			runFile(t, file, o)
		}
	}
}

// environment reads a variable that is true or false; it is false if it is not
// set.
func environment(name string) (bool, error) {
	v := os.Getenv(name)
	if v == "" {
		return false, nil
	}
	is, err := strconv.ParseBool(v)
	if err != nil {
		return false, fmt.Errorf("environment variable %s: %q is neither true nor false", name, v)
	}
	return is, nil
}

func runFile(t Reporter, file string, o Options) {
	t.Helper()
	data, err := readCase(t, file, o)
	if err != nil {
		t.Errorf("%v", err)
		return
	}
	// A checkout may have turned line breaks into those of Windows.
	text := bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))
	updated := runCase(t, file, text, o)
	if bytes.Equal(updated, text) {
		return
	}
	if err := os.WriteFile(file, updated, 0o644); err != nil {
		t.Errorf("%v", err)
		return
	}
	t.Logf("%s: updated", file)
}

// maxCaseFile bounds the file of a case, in bytes.
const maxCaseFile = 64 << 20

// readCase reads the file of a case: one that is written as well, or what may
// also be a pipe, until the test ends.
func readCase(t Reporter, file string, o Options) ([]byte, error) {
	if o.Update {
		return filewatch.ReadFile(file, maxCaseFile)
	}
	ctx := context.Background()
	if until, ok := t.(interface{ Context() context.Context }); ok {
		ctx = until.Context()
	}
	return filewatch.ReadStream(ctx, file, maxCaseFile)
}

// runCase runs a case and returns its text, with new expectations if that is
// asked for.
func runCase(t Reporter, file string, data []byte, o Options) []byte {
	t.Helper()
	c, err := parseCase(file, data)
	if err != nil {
		t.Errorf("%v", err)
		return data
	}
	got, failures, err := c.run(o)
	if err != nil {
		t.Errorf("%s: %v", file, err)
		return data
	}
	unexpected := c.checkFailures(t, failures)
	if o.Update {
		if len(unexpected) == 0 && c.want["want/error"] == nil {
			delete(got, "want/error")
		}
		updated, err := c.update(data, got)
		if err != nil {
			t.Errorf("%v", err)
			return data
		}
		return updated
	}
	for _, name := range wantNames {
		if s := c.want[name]; s != nil {
			s.compare(t, got[name])
		}
	}
	if c.want["want/error"] == nil {
		for _, f := range unexpected {
			t.Errorf("%s", f.report())
		}
	}
	return data
}

// A failure is that of a script to compile or to run.
type failure struct {
	script    string
	event     datascript.Event
	line      int
	message   string
	heading   string // in want/error; empty if the script did not compile
	traceback string // likewise
	place     string // in the case's file
}

func (f *failure) report() string {
	s := fmt.Sprintf("%s: unexpected error of script %q: %s", f.place, f.script, f.message)
	if f.traceback != "" {
		s += fmt.Sprintf("\nin %s\n%s", f.heading, f.traceback)
	}
	return s
}

// run compiles the scripts and takes the requests through them. It returns the
// text of each want section.
func (c *testCase) run(o Options) (got map[string]string, failures []*failure, err error) {
	var requests, responses, transactions, logs, faults strings.Builder
	for _, s := range c.scripts {
		script, err := s.compile()
		for _, fault := range fielderr.Leaves(err) {
			ce, ok := errors.AsType[*datascript.CompileError](fault)
			if !ok {
				continue
			}
			failures = append(failures, &failure{
				script: s.name, event: ce.Event, line: ce.Line, message: ce.Error(), place: c.place(s.name, ce.Event, ce.Line),
			})
			faults.WriteString(ce.Error() + "\n")
		}
		c.service.Scripts = append(c.service.Scripts, script)
		if o.Coverage != nil && err == nil {
			s.cover(o.Coverage, script)
		}
	}
	if len(failures) > 0 {
		return map[string]string{"want/error": faults.String()}, failures, nil
	}

	c.service.Limits, c.service.Coverage = o.Limits, o.Coverage
	for i, st := range c.steps {
		c.service.Tables.Advance(st.after)
		for _, change := range st.servers {
			change.server.Down = change.down
		}
		a := c.answer(i)
		c.service.Respond = a.respond()
		st.connection.failure = a.failure
		result, err := c.service.do(st.request.WithContext(context.Background()), st.connection)
		if err != nil {
			return nil, nil, err
		}
		n := i + 1
		formatRequest(&requests, n, result)
		formatResponse(&responses, n, result)
		formatTransaction(&transactions, n, result)
		if len(result.Log) > 0 {
			fmt.Fprintf(&logs, "# %d\n%s\n", n, strings.Join(result.Log, "\n"))
		}
		if e := result.Err; e != nil {
			heading := fmt.Sprintf("# %d %v", n, e.Event)
			fmt.Fprintf(&faults, "%s\n%s\n", heading, e.Message)
			failures = append(failures, &failure{
				heading: heading, script: e.Script, event: e.Event, line: e.Line,
				message: e.Message, traceback: e.Traceback, place: c.place(e.Script, e.Event, e.Line),
			})
		}
	}
	return map[string]string{
		"want/request":     requests.String(),
		"want/response":    responses.String(),
		"want/transaction": transactions.String(),
		"want/tables":      formatEntries(c.service.Tables.Entries()),
		"want/metrics":     formatMetrics(c.service.Metrics.Snapshot()),
		"want/log":         logs.String(),
		"want/error":       faults.String(),
	}, failures, nil
}

func (s *scriptSource) compile() (*datascript.Script, error) {
	chunks := make([]datascript.Chunk, len(s.chunks))
	for i, ch := range s.chunks {
		chunks[i] = datascript.Chunk{Event: ch.event, Source: ch.section.text}
	}
	return datascript.Compile(s.name, chunks...)
}

// cover has the lines of a script counted, as lines of the case's file.
func (s *scriptSource) cover(c *Coverage, script *datascript.Script) {
	for ev := datascript.HTTPAuth; ev <= datascript.HTTPRespData; ev++ {
		for _, ch := range s.chunks {
			if script.Handles(ev) && (ch.event == ev || ch.event == 0) {
				c.add(script, ev, ch.section.text, ch.section.file, ch.section.line-1)
			}
		}
	}
}

// answer returns what the servers answer to request i.
func (c *testCase) answer(i int) answer {
	switch len(c.answers) {
	case 0:
		return answer{response: &Response{Status: http.StatusOK}}
	case 1:
		return c.answers[0]
	}
	return c.answers[i]
}

// respond returns a function that gives the answer.
func (a answer) respond() func(netip.AddrPort, *http.Request) (*Response, error) {
	return func(netip.AddrPort, *http.Request) (*Response, error) {
		if a.response == nil {
			return nil, nil
		}
		// Scripts change the header, and the answer may be for all requests.
		return &Response{Status: a.response.Status, Header: a.response.Header.Clone(), Body: a.response.Body}, nil
	}
}

// place returns the file and line of a line of a script.
func (c *testCase) place(script string, ev datascript.Event, line int) string {
	for _, s := range c.scripts {
		if s.name != script {
			continue
		}
		for _, ch := range s.chunks {
			if line > 0 && (ch.event == ev || ch.event == 0) {
				return fmt.Sprintf("%s:%d", ch.section.file, ch.section.line+line-1)
			}
		}
	}
	return c.file
}

// checkFailures compares failures with the comments of the scripts that expect
// them, and returns those that no comment expects.
func (c *testCase) checkFailures(t Reporter, failures []*failure) (unexpected []*failure) {
	t.Helper()
	var expected []*expectation
	for _, s := range c.scripts {
		for _, ch := range s.chunks {
			expected = append(expected, ch.expectations(s.name)...)
		}
	}
	for _, f := range failures {
		met := false
		for _, x := range expected {
			if x.meets(f.script, f.event, f.line, f.message) {
				x.met, met = true, true
			}
		}
		if !met {
			unexpected = append(unexpected, f)
		}
	}
	for _, x := range expected {
		if !x.met {
			t.Errorf("%v", x.source.errorf(x.line-1, "this line was to fail with %q, and did not", x.text))
		}
	}
	return unexpected
}

// compare reports how a want section differs from what came out.
func (s *section) compare(t Reporter, got string) {
	t.Helper()
	want := s.text
	if s.name == "want/tables" {
		// Order and notation do not matter here.
		entries, err := s.entries()
		if err != nil {
			t.Errorf("%v", err)
			return
		}
		slices.SortFunc(entries, compareEntries)
		want = formatEntries(entries)
	}
	if d := diff(trimLines(want), trimLines(got)); d != "" {
		t.Errorf("%s:%d: %s differs (- what the case wants, + what came out):\n%s", s.file, s.line-1, s.name, d)
	}
}

// trimLines drops the empty lines at the end.
func trimLines(s string) string { return strings.TrimRight(s, "\n") + "\n" }

// update returns the case with new expectations.
func (c *testCase) update(data []byte, got map[string]string) ([]byte, error) {
	lines := strings.SplitAfter(string(completeLines(data)), "\n")
	var b strings.Builder
	at := 0 // of lines
	for _, s := range c.sections {
		text, ok := got[s.name]
		if !ok || c.want[s.name] != s {
			continue
		}
		b.WriteString(strings.Join(lines[at:s.line-1], ""))
		b.WriteString(text)
		at = s.line - 1 + strings.Count(s.text, "\n")
	}
	b.WriteString(strings.Join(lines[at:], ""))
	for _, name := range wantNames {
		if c.want[name] == nil && got[name] != "" {
			fmt.Fprintf(&b, "-- %s --\n%s", name, got[name])
		}
	}
	updated := []byte(b.String())
	for _, f := range txtar.Parse(updated).Files {
		if want, ok := got[f.Name]; ok && want != string(f.Data) {
			return nil, fmt.Errorf("%s: %s cannot be written: a line of it would end the section", c.file, f.Name)
		}
	}
	return updated, nil
}

// completeLines adds the line break that the last line may lack.
func completeLines(data []byte) []byte {
	if n := len(data); n > 0 && data[n-1] != '\n' {
		return append(slices.Clip(data), '\n')
	}
	return data
}

// formatRequest writes what a server got of request n, for want/request.
func formatRequest(b *strings.Builder, n int, r *Result) {
	if r.Sent == nil {
		fmt.Fprintf(b, "# %d not sent\n", n)
		return
	}
	fmt.Fprintf(b, "# %d", n)
	if r.Server.IsValid() {
		b.WriteString(" " + joinWords(r.Pool, r.Server.String()))
	}
	b.WriteByte('\n')
	writeHead(b, r.Sent.Method+" "+r.Sent.URL.RequestURI()+" HTTP/1.1\nHost: "+r.Sent.Host, r.Sent.Header)
	body, _ := io.ReadAll(r.Sent.Body) // from memory
	writeBody(b, body)
}

// formatResponse writes what the client got of request n, for want/response.
func formatResponse(b *strings.Builder, n int, r *Result) {
	fmt.Fprintf(b, "# %d", n)
	if r.Closed != Open {
		b.WriteString(" " + r.Closed.String())
	}
	b.WriteByte('\n')
	if resp := r.Response; resp != nil {
		writeHead(b, strings.TrimRight(fmt.Sprintf("HTTP/1.1 %d %s", resp.Status, http.StatusText(resp.Status)), " "), resp.Header)
		writeBody(b, resp.Body)
	}
}

// formatTransaction writes what scripts decided about transaction n, for
// want/transaction.
func formatTransaction(b *strings.Builder, n int, r *Result) {
	var lines []string
	add := func(set bool, words ...string) {
		if set {
			lines = append(lines, joinWords(words...))
		}
	}
	add(r.User != "", "user", r.User)
	add(r.ServerTimeout != 0, "server-timeout", r.ServerTimeout.String())
	add(r.HashKey != "", "hash-key", r.HashKey)
	add(r.Tunneled, "tunnel")
	if len(lines) > 0 {
		fmt.Fprintf(b, "# %d\n%s\n", n, strings.Join(lines, "\n"))
	}
}

// formatMetrics writes the metrics at the end, for want/metrics.
func formatMetrics(list []datascript.Metric) string {
	var b strings.Builder
	for _, m := range list {
		kind := "counter"
		if m.Gauge {
			kind = "gauge"
		}
		fmt.Fprintf(&b, "%s %s %s\n", kind, joinWords(m.Name), strconv.FormatFloat(m.Value, 'g', -1, 64))
	}
	return b.String()
}
