package datascript

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/internal/lua51"
)

// A Chunk is the source of a script for one event.
type Chunk struct {
	// Event is the event for which the chunk runs. Zero means that Source is a
	// listing: the scripts of several events in one text, each below a heading,
	// which is a separate comment line such as "-- HTTP Request Event --", "--
	// HTTP_REQ" or "-- HTTP_RESPONSE".
	Event Event
	// Source is Lua 5.1, at most 64 KiB. A byte order mark at its beginning is
	// ignored.
	Source string
	// Line is the number of the first line of Source, for messages, at most a
	// million. Zero means 1.
	Line int
}

// A Script is a compiled DataScript: a name and the code for one or more
// events. It is immutable; any number of engines and goroutines may use it.
type Script struct {
	name     string
	programs [numEvents]*lua51.Program
	warnings []Warning

	references []Reference

	storesServerIP, buffersRequest, buffersResponse bool
}

// An origin is the source of a program.
type origin struct {
	script *Script
	event  Event
}

// Compile compiles a script. Its name appears in log lines and error texts. The
// chunks' events must differ; a single chunk without an event is a listing. The
// error joins a [*CompileError] for each fault in the headings of a listing,
// and for the first one in the code of each event, in the order of their lines;
// it is the only one itself.
//
// Compile does not check the names of pools and groups, since a Script is not
// bound to a virtual service; [Script.References] has them.
func Compile(name string, chunks ...Chunk) (*Script, error) {
	if err := lua51.Fault(); err != nil {
		return nil, &CompileError{Script: name, Message: err.Error()}
	}
	if err := fielderr.CheckName(name, fielderr.MaxName); err != nil && name != "" {
		return nil, &CompileError{Script: name, Message: "the name is " + err.Error()}
	}
	if len(chunks) == 0 {
		return nil, &CompileError{Script: name, Message: "no source"}
	}
	s := &Script{name: name}
	var faults []*CompileError
	chunks = slices.Clone(chunks)
	for i := range chunks {
		chunks[i].Source = strings.TrimPrefix(chunks[i].Source, "\ufeff")
	}
	if len(chunks) == 1 && chunks[0].Event == 0 {
		chunks, s.warnings, faults = splitListing(name, chunks[0].Source, max(chunks[0].Line, 1))
	} else {
		for _, c := range chunks {
			s.warnings = append(s.warnings, strayHeadings(c)...)
		}
	}

	trees := make([]*lua51.Tree, len(chunks))
	for i, c := range chunks {
		if c.Event >= numEvents || c.Event == 0 {
			return nil, &CompileError{Script: name, Line: c.Line, Message: fmt.Sprintf("chunk %d: invalid event %d", i, uint8(c.Event))}
		}
		if j := slicesIndexEvent(chunks[:i], c.Event); j >= 0 {
			return nil, &CompileError{Script: name, Event: c.Event, Message: fmt.Sprintf("chunks %d and %d are for the same event", j, i)}
		}
		tree, err := lua51.Parse(name, lua51.Source{Text: c.Source, Line: c.Line, Tag: &origin{s, c.Event}})
		if err != nil {
			faults = append(faults, compileError(name, c.Event, err))
		}
		trees[i] = tree
	}
	if len(faults) > 0 {
		return nil, joined(faults)
	}
	doubts := &doubts{}
	compiled, err := lua51.Compile(name, library, doubts, trees...)
	if err != nil {
		var ev Event
		if ce := (*lua51.CompileError)(nil); errors.As(err, &ce) && ce.Tree >= 0 {
			ev = chunks[ce.Tree].Event
		}
		return nil, compileError(name, ev, err)
	}
	for i, p := range compiled.Programs() {
		s.programs[chunks[i].Event] = p
	}
	s.warnings = append(s.warnings, doubts.warnings...)
	s.references = sortReferences(doubts.references)
	s.storesServerIP, s.buffersRequest, s.buffersResponse = doubts.storesServerIP, doubts.buffersRequest, doubts.buffersResponse
	slices.SortStableFunc(s.warnings, func(a, b Warning) int {
		return cmp.Or(cmp.Compare(a.Event, b.Event), cmp.Compare(a.Line, b.Line))
	})
	return s, nil
}

// joined returns faults as one error, in the order of their lines.
func joined(faults []*CompileError) error {
	if len(faults) == 1 {
		return faults[0]
	}
	slices.SortStableFunc(faults, func(a, b *CompileError) int { return cmp.Compare(a.Line, b.Line) })
	all := make([]error, len(faults))
	for i, f := range faults {
		all[i] = f
	}
	return errors.Join(all...)
}

// compileError adds the position to an error of the Lua compiler.
func compileError(name string, ev Event, err error) *CompileError {
	e := &CompileError{Script: name, Event: ev, Message: err.Error()}
	if ce := (*lua51.CompileError)(nil); errors.As(err, &ce) {
		e.Line, e.Token = ce.Line, ce.Token
	}
	return e
}

func slicesIndexEvent(chunks []Chunk, ev Event) int {
	for i, c := range chunks {
		if c.Event == ev {
			return i
		}
	}
	return -1
}

// Name returns the name given to [Compile].
func (s *Script) Name() string { return s.name }

// Handles reports whether the script has code for an event.
func (s *Script) Handles(ev Event) bool {
	return ev < numEvents && s.programs[ev] != nil
}

// Lines returns the numbers of the lines that have code for an event, in order
// and each once: those that [Env].Trace can report. A line with only "end",
// "else" or "break" has no code. Lines returns nil if the script has no code
// for the event.
func (s *Script) Lines(ev Event) []int {
	if !s.Handles(ev) {
		return nil
	}
	return s.programs[ev].Lines()
}
