package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/fielderr"
)

// An Error is one fault of a configuration, or one thing that it warns of. The
// errors of [Load], [Parse], [Check], [File.Build] and [Runtime.Update] join
// Errors, in the order of the files, those of scripts last.
type Error struct {
	// File is the name of the file; empty if there is none.
	File string
	// Line begins with 1; 0 means the whole file.
	Line int
	// Column begins with 1, and counts characters; 0 means the whole line.
	Column int
	// Path is the way to the value in the configuration, such as
	// "pools[0].servers[1].address". Empty means the whole file.
	Path string
	// Value is what the file has there; nil if that is a secret, comes from an
	// environment variable or a file of its own, or would say nothing.
	Value any
	// Err is the fault.
	Err error
	// Suggestion is what may have been meant. Empty means that nothing allowed
	// is similar.
	Suggestion string
}

// Error returns place, path, value, fault and suggestion in one line.
func (e *Error) Error() string {
	var b strings.Builder
	switch {
	case e.File == "":
	case e.Line == 0:
		b.WriteString(e.File + ": ")
	case e.Column == 0:
		fmt.Fprintf(&b, "%s:%d: ", e.File, e.Line)
	default:
		fmt.Fprintf(&b, "%s:%d:%d: ", e.File, e.Line, e.Column)
	}
	if e.Path != "" {
		b.WriteString(e.Path + ": ")
	}
	text := e.Err.Error()
	if e.Value != nil && !tells(text, e.Value) {
		b.WriteString(fielderr.Quote(e.Value) + ": ")
	}
	b.WriteString(text)
	if e.Suggestion != "" {
		fmt.Fprintf(&b, "; did you mean %q?", e.Suggestion)
	}
	return b.String()
}

// Unwrap returns e.Err.
func (e *Error) Unwrap() error { return e.Err }

// Position returns File, Line and Column, for programs that show faults of any
// kind.
func (e *Error) Position() (file string, line, column int) { return e.File, e.Line, e.Column }

// As sets a target of type **[limpet.FieldError], as errors of the other
// packages are, to path, value and fault.
func (e *Error) As(target any) bool {
	field, ok := target.(**limpet.FieldError)
	if ok {
		*field = &limpet.FieldError{Path: e.Path, Value: e.Value, Err: e.Err}
	}
	return ok
}

// tells reports whether a text names a value already.
func tells(text string, value any) bool {
	s, ok := value.(string)
	if !ok {
		return strings.HasPrefix(text, fielderr.Quote(value)+" ")
	}
	return s == "" || strings.HasPrefix(text, `"`) || strings.HasPrefix(text, s+" ") || strings.Contains(text, fielderr.Quote(s)) || len(s) >= minHidden-1 && strings.Contains(text, s)
}

// maxFaults is how many faults an error has, except for that of [Check]; it
// says how many more there are.
const maxFaults = 100

// maxKept is how many faults are kept while a file is read.
const maxKept = 10_000

// A fault is an Error in the making.
type fault struct {
	place
	path  string
	value any
	err   error
	fatal bool // so much is missing that whatever refers to it would be reported, too
	typed string
	taken taken           // what is at the place, if it does not stand in the file
	among func() []string // what could have been meant by typed
}

// A report collects faults.
type report struct {
	faults []*fault
	more   int // not kept
	most   int // to return; 0 means maxFaults
}

func (r *report) add(f *fault) {
	if len(r.faults) >= maxKept && !f.fatal {
		r.more++
		return
	}
	r.faults = append(r.faults, f)
}

// errors returns the faults in the order of the files. Their texts have nothing
// of hidden values.
func (r *report) errors(hidden map[string]string) []*Error {
	sorted := slices.Clone(r.faults)
	slices.SortStableFunc(sorted, func(a, b *fault) int {
		return cmp.Or(cmp.Compare(a.rank(), b.rank()), cmp.Compare(a.line, b.line), cmp.Compare(a.column, b.column))
	})
	var all []*Error
	for _, f := range sorted[:min(len(sorted), cmp.Or(r.most, maxFaults))] {
		all = append(all, f.error(hidden))
	}
	return all
}

// join returns the faults as one error; nil if there are none.
func (r *report) join(hidden map[string]string) error {
	var all []error
	for _, e := range r.errors(hidden) {
		all = append(all, e)
	}
	if more := len(r.faults) + r.more - len(all); more > 0 {
		all = append(all, fmt.Errorf("and %d more", more))
	}
	return errors.Join(all...)
}

// rank orders faults by source; those without a place come last.
func (f *fault) rank() int {
	if f.source == nil || f.line == 0 {
		return 1 << 30
	}
	return f.order
}

func (f *fault) error(hidden map[string]string) *Error {
	e := &Error{Line: f.line, Column: f.column, Path: f.path, Value: f.value, Err: f.err}
	if f.source != nil {
		e.File = f.name
	}
	text := f.err.Error()
	if short, hint, ok := strings.Cut(text, "; did you mean "); ok {
		// Packages that know the words say so in their texts.
		if word, err := strconv.Unquote(strings.TrimSuffix(hint, "?")); err == nil {
			e.Suggestion, e.Err, text = word, shortened{f.err, short}, short
		}
	}
	if f.among != nil && e.Suggestion == "" {
		e.Suggestion = nearest(f.typed, f.among())
	}
	if n := len(f.taken.text); n > 0 && n < minHidden && strings.Contains(text, f.taken.text) {
		// The rest of the text could tell which characters are replaced.
		text = "the content of " + f.taken.from + " does not fit here"
		e.Err, e.Suggestion = errors.New(text), ""
	}
	for _, value := range slices.Sorted(maps.Keys(hidden)) {
		shown := value
		if len(value) < minHidden {
			shown = quoted(value) // or it would be in too many texts
		}
		if value != "" && strings.Contains(text, shown) {
			text = strings.ReplaceAll(text, shown, "["+hidden[value]+"]")
			e.Err = errors.New(text)
		}
		if e.Value != nil && len(value) >= minHidden && strings.Contains(fmt.Sprint(e.Value), value) {
			e.Value = nil
		}
	}
	return e
}

// shortened is an error with a text of its own.
type shortened struct {
	error
	text string
}

// Error returns the text.
func (s shortened) Error() string { return s.text }

// Unwrap returns the error.
func (s shortened) Unwrap() error { return s.error }

// minHidden is how long a value is that is looked for in all texts: shorter
// ones are in too many of them by chance. They are looked for in quotation
// marks, and in faults of the place that has them.
const minHidden = 4

// quoted returns a text as errors show it.
func quoted(text string) string { return fielderr.Quote(text) }
