// Command gotest runs "go test" and fails as well when tests were skipped that
// nobody expected to be.
//
//	gotest -run NAME -skips FILE [-unraced PACKAGES] [-- arguments of go test]
//
// With -unraced only those tests of the packages run that differ under the race
// detector, because they use a name of a file that is built with it only, or
// without it only: those that count allocations, measure what something costs,
// or do less under it. PACKAGES are patterns, separated by blanks.
//
// It prints one line for each package, everything that failing tests said, and
// a closing line with the numbers of tests that passed, failed and were
// skipped. Since a run without tests proves nothing, that is a failure too.
//
// The file lists the skips that are expected, one a line; empty lines and those
// that begin with # do not count:
//
//	RUN PACKAGE TEST REASON...
//
// RUN is the name of a run, or * for all. PACKAGE is the end of an import path,
// or * for all; with /... it stands for the packages below it as well. TEST is
// a regular expression for the test's whole name, or - for a package that has
// no tests.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

func main() {
	run := flag.String("run", "test", "name of this run, for the list of skips and the closing line")
	skips := flag.String("skips", "", "file with the expected skips")
	only := flag.String("unraced", "", "run only tests that differ under the race detector, of these `packages`")
	flag.Parse()
	args := flag.Args()
	if *only != "" {
		packages, tests, err := unraced(strings.Fields(*only)...)
		if err != nil {
			fmt.Fprintf(os.Stderr, "gotest: %v\n", err)
			os.Exit(1)
		}
		args = slices.Concat(args, []string{"-run=" + tests}, packages)
	}
	if err := test(*run, *skips, args, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "gotest: %v\n", err)
		os.Exit(1)
	}
}

// test runs go test and writes the report to w.
func test(run, skips string, args []string, w io.Writer) error {
	expected, err := readSkips(skips)
	if err != nil {
		return err
	}
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	r := report{w: w, run: run, expected: expected, output: make(map[testID][]string)}
	readErr := r.read(out)
	_, drainErr := io.Copy(io.Discard, out) // so that go test does not wait for a reader
	return errors.Join(readErr, drainErr, cmd.Wait(), r.close())
}

// skip is one line of the list of expected skips.
type skip struct {
	run, pkg string
	test     *regexp.Regexp // nil: a package without tests
}

// readSkips reads the list of expected skips; without a file there are none.
func readSkips(file string) ([]skip, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var skips []skip
	for i, line := range strings.Split(string(text), "\n") {
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if len(fields) < 4 {
			return nil, fmt.Errorf("%s:%d: want RUN PACKAGE TEST REASON", file, i+1)
		}
		s := skip{run: fields[0], pkg: fields[1]}
		if fields[2] != "-" {
			if s.test, err = regexp.Compile("^(?:" + fields[2] + ")$"); err != nil {
				return nil, fmt.Errorf("%s:%d: %w", file, i+1, err)
			}
		}
		skips = append(skips, s)
	}
	return skips, nil
}

// event is what go test -json reports (go doc test2json).
type event struct{ Action, Package, Test, Output string }

type testID struct{ pkg, test string }

// report turns events into a report.
type report struct {
	w        io.Writer
	run      string
	expected []skip

	output                  map[testID][]string // of tests that run
	unexpected              []string
	passed, failed, skipped int
}

// read reads all events.
func (r *report) read(events io.Reader) error {
	lines := bufio.NewReader(events)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			var e event
			if json.Unmarshal([]byte(line), &e) != nil {
				fmt.Fprint(r.w, line) // the go command speaks, not a test
			} else {
				r.event(e)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func (r *report) event(e event) {
	id := testID{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		fmt.Fprint(r.w, e.Output)
	case "output":
		if e.Test != "" {
			r.output[id] = append(r.output[id], e.Output)
		} else if e.Output != "PASS\n" {
			fmt.Fprint(r.w, e.Output)
		}
	case "pass":
		if e.Test != "" {
			r.passed++
		}
		delete(r.output, id)
	case "fail":
		if e.Test != "" {
			r.failed++
			r.print(id)
			break
		}
		for _, open := range r.open(e.Package) { // tests cut off by a panic or the time limit
			r.print(open)
		}
	case "skip":
		if e.Test != "" {
			r.skipped++
		}
		if !slices.ContainsFunc(r.expected, func(s skip) bool { return s.matches(r.run, e) }) {
			name := strings.TrimSpace(e.Package + " " + cmp.Or(e.Test, "has no tests"))
			reason := strings.Join(r.output[id], "")
			r.unexpected = append(r.unexpected, name+"\n"+reason)
		}
		delete(r.output, id)
	}
}

// open returns the tests of a package that have not ended, in the order of
// their names.
func (r *report) open(pkg string) []testID {
	var open []testID
	for id := range r.output {
		if id.pkg == pkg {
			open = append(open, id)
		}
	}
	slices.SortFunc(open, func(a, b testID) int { return cmp.Compare(a.test, b.test) })
	return open
}

// print prints what a test said.
func (r *report) print(id testID) {
	for _, line := range r.output[id] {
		fmt.Fprint(r.w, line)
	}
	delete(r.output, id)
}

// matches reports whether the skip e is the one that s expects.
func (s skip) matches(run string, e event) bool {
	if s.run != "*" && s.run != run {
		return false
	}
	if parent, below := strings.CutSuffix(s.pkg, "/..."); below {
		if !strings.Contains("/"+e.Package+"/", "/"+parent+"/") {
			return false
		}
	} else if s.pkg != "*" && !strings.HasSuffix("/"+e.Package, "/"+s.pkg) {
		return false
	}
	if s.test == nil || e.Test == "" {
		return s.test == nil && e.Test == ""
	}
	return s.test.MatchString(e.Test)
}

// close writes the end of the report.
func (r *report) close() error {
	var err error
	for _, name := range r.unexpected {
		fmt.Fprintf(r.w, "skipped, though it should run: %s", name)
		if !strings.HasSuffix(name, "\n") {
			fmt.Fprintln(r.w)
		}
		err = errors.New("tests were skipped that should run")
	}
	if r.passed+r.failed == 0 {
		err = errors.New("no test ran")
	}
	fmt.Fprintf(r.w, "%s: %d passed, %d failed, %d skipped\n", r.run, r.passed, r.failed, r.skipped)
	return err
}
