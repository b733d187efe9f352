package datascripttest

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/limpetlb/limpet/datascript"
)

// CoverVariable is the environment variable that makes [RunFiles] log which
// lines of the scripts its cases have run: a value that is true in the sense of
// [strconv.ParseBool] does so. It is seen with go test -v.
const CoverVariable = "DATASCRIPTTEST_COVER"

// A Coverage counts how often the lines of scripts have run, over any number of
// requests, services and case files. It is filled by a [VirtualService], by
// [RunFiles], or by any engine whose Env.Trace is [Coverage.Trace]. Scripts
// with the same source are taken for one: in case files those with the same
// text for an event, else those with the same name and with code on the same
// lines. A line that holds the beginning and the end of a block may count
// twice.
//
// The zero Coverage is ready for use. It may be used concurrently, and must not
// be copied.
type Coverage struct {
	mu    sync.Mutex
	parts []*part // in the order in which they came
	same  map[sourceKey]*part
	of    map[partKey]*part
}

// A part is what one or more scripts have for an event.
type part struct {
	script string
	event  datascript.Event
	file   string
	offset int         // of the script's lines in the file
	runs   map[int]int // by line of the script that holds code
}

type partKey struct {
	script *datascript.Script
	event  datascript.Event
}

// A sourceKey identifies a source.
type sourceKey struct {
	event  datascript.Event
	source string
}

// Add has all lines of a script counted, also those that never run. file is
// where its source stands, for reports, and must count lines as the script
// does; empty means that its name is shown. A script that is there already
// stays as it is.
func (c *Coverage) Add(s *datascript.Script, file string) {
	for ev := datascript.HTTPAuth; ev <= datascript.HTTPRespData; ev++ {
		if s.Handles(ev) {
			c.add(s, ev, fmt.Sprint(s.Name(), s.Lines(ev)), file, 0)
		}
	}
}

func (c *Coverage) add(s *datascript.Script, ev datascript.Event, source, file string, offset int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := partKey{s, ev}
	if c.of[key] != nil {
		return
	}
	if c.of == nil {
		c.of, c.same = map[partKey]*part{}, map[sourceKey]*part{}
	}
	p := c.same[sourceKey{ev, source}]
	if p == nil {
		p = &part{script: s.Name(), event: ev, file: file, offset: offset, runs: map[int]int{}}
		for _, line := range s.Lines(ev) {
			p.runs[line] = 0
		}
		c.same[sourceKey{ev, source}] = p
		c.parts = append(c.parts, p)
	}
	c.of[key] = p
}

// Trace counts a line; it is for [datascript.Env].Trace. A script that was not
// added is added by it.
func (c *Coverage) Trace(s *datascript.Script, ev datascript.Event, line int) {
	if !c.count(s, ev, line) {
		c.Add(s, "")
		c.count(s, ev, line)
	}
}

func (c *Coverage) count(s *datascript.Script, ev datascript.Event, line int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.of[partKey{s, ev}]
	if p != nil {
		p.runs[line]++
	}
	return p != nil
}

// EventCoverage says which lines of a script have run, of those for one event.
type EventCoverage struct {
	Script string           // the name
	Event  datascript.Event // never zero
	File   string           // where the source stands; empty if that is not known
	Lines  int              // that have code
	Missed []int            // those that have not run, as File counts them or, without one, the script; ascending
}

// Percent is the share of lines that have run, 100 if there are none.
func (e EventCoverage) Percent() float64 { return percent(e.Lines-len(e.Missed), e.Lines) }

func percent(n, of int) float64 {
	if of == 0 {
		return 100
	}
	return 100 * float64(n) / float64(of)
}

// Events returns what is covered of each script and event, in the order in
// which they were added. The slice is the caller's.
func (c *Coverage) Events() []EventCoverage {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]EventCoverage, len(c.parts))
	for i, p := range c.parts {
		list[i] = EventCoverage{Script: p.script, Event: p.event, File: p.file, Lines: len(p.runs)}
		for _, line := range slices.Sorted(maps.Keys(p.runs)) {
			if p.runs[line] == 0 {
				list[i].Missed = append(list[i].Missed, line+p.offset)
			}
		}
	}
	return list
}

// Percent is the share of all lines that have run, 100 if there are none.
func (c *Coverage) Percent() float64 {
	lines, ran := 0, 0
	for _, e := range c.Events() {
		lines, ran = lines+e.Lines, ran+e.Lines-len(e.Missed)
	}
	return percent(ran, lines)
}

// String is the report: a line for each script and event, with the lines that
// have not run, and one for all of them.
func (c *Coverage) String() string {
	var b strings.Builder
	lines, ran := 0, 0
	for _, e := range c.Events() {
		lines, ran = lines+e.Lines, ran+e.Lines-len(e.Missed)
		fmt.Fprintf(&b, "%5.1f%%  %s %v", e.Percent(), e.Script, e.Event)
		if len(e.Missed) > 0 {
			where := "line"
			if e.File != "" {
				where = e.File
			}
			fmt.Fprintf(&b, ": not run: %s:%s", where, ranges(e.Missed))
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "%5.1f%%  of %d lines\n", percent(ran, lines), lines)
	return b.String()
}

// ranges writes numbers as "3,5-7".
func ranges(numbers []int) string {
	var b strings.Builder
	for i := 0; i < len(numbers); {
		j := i + 1
		for j < len(numbers) && numbers[j] == numbers[j-1]+1 {
			j++
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(numbers[i]))
		if j > i+1 {
			b.WriteString("-" + strconv.Itoa(numbers[j-1]))
		}
		i = j
	}
	return b.String()
}

// WriteLCOV writes the counts in the format of lcov's trace files (geninfo(1)),
// which editors and services show and genhtml makes pages of. Of scripts in
// case files, source and lines are those of the file that came first; a script
// without a file is named instead.
func (c *Coverage) WriteLCOV(w io.Writer) error {
	c.mu.Lock()
	files := map[string]map[int]int{}
	var order []string
	for _, p := range c.parts {
		name := p.file
		if name == "" {
			name = p.script
		}
		if files[name] == nil {
			files[name] = map[int]int{}
			order = append(order, name)
		}
		for line, n := range p.runs {
			files[name][line+p.offset] += n
		}
	}
	c.mu.Unlock()

	var b strings.Builder
	for _, name := range order {
		hit := 0
		fmt.Fprintf(&b, "TN:\nSF:%s\n", oneLine.Replace(name))
		for _, line := range slices.Sorted(maps.Keys(files[name])) {
			n := files[name][line]
			hit += min(n, 1)
			fmt.Fprintf(&b, "DA:%d,%d\n", line, n)
		}
		fmt.Fprintf(&b, "LF:%d\nLH:%d\nend_of_record\n", len(files[name]), hit)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

var oneLine = strings.NewReplacer("\n", " ", "\r", " ")
