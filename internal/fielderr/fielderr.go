// Package fielderr describes the faults of a configuration: which field has
// which value, and what is wrong with it. All packages use its one [Error], as
// FieldError, so a program needs one target for [errors.As].
package fielderr

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/limpetlb/limpet/internal/oneline"
)

// MaxQuoted is how many bytes of a value an [Error] shows.
const MaxQuoted = 64

// An Error is one fault of one field.
type Error struct {
	// Path is the way to the field: names that begin with a lower-case letter,
	// as in a configuration file, joined by dots, with the positions of list
	// items, from 0: "healthMonitors[0].interval". Empty means the whole value.
	Path string
	// Value is the value of the field; nil if it is not known, is secret, or
	// would say nothing.
	Value any
	// Err is the fault. Nil reads "not valid".
	Err error
}

// Error returns the path, the value and the fault, as in
// "healthMonitors[0].interval: 2h0m0s: more than 1h0m0s". It shows at most
// [MaxQuoted] bytes of the value.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Path != "" {
		b.WriteString(e.Path)
		b.WriteString(": ")
	}
	if e.Value != nil {
		b.WriteString(Quote(e.Value))
		b.WriteString(": ")
	}
	if e.Err != nil {
		b.WriteString(e.Err.Error())
	} else {
		b.WriteString("not valid")
	}
	return b.String()
}

// Unwrap returns e.Err.
func (e *Error) Unwrap() error { return e.Err }

// Quote returns value as an error shows it: strings, bytes and constants that
// have a text quoted, what is no constant of its type as a number, everything
// else as fmt prints it, in one line, cut after [MaxQuoted] bytes.
func Quote(value any) string {
	switch v := value.(type) {
	case string:
		return quoteText(v)
	case []byte:
		return quoteText(string(v))
	}
	of := reflect.TypeOf(value)
	if m, ok := value.(encoding.TextMarshaler); ok && of.ConvertibleTo(reflect.TypeFor[int]()) {
		text, err := m.MarshalText()
		if err != nil {
			return fmt.Sprintf("%d", value)
		}
		return quoteText(string(text))
	}
	text := fmt.Sprint(value)
	if of != nil && of.Kind() == reflect.String {
		return quoteText(text)
	}
	if cut := cutText(text); len(cut) < len(text) {
		return oneline.Escape(cut) + "..."
	}
	return oneline.Escape(text)
}

func quoteText(text string) string {
	if cut := cutText(text); len(cut) < len(text) {
		return strconv.Quote(cut) + "..."
	}
	return strconv.Quote(text)
}

// cutText returns at most MaxQuoted bytes of text, whole runes.
func cutText(text string) string {
	if len(text) <= MaxQuoted {
		return text
	}
	n := MaxQuoted
	for n > MaxQuoted-utf8.UTFMax && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}

// A List collects the faults of a configuration. The zero List is empty.
type List struct{ errs []error }

// Add adds one fault.
func (l *List) Add(path string, value any, err error) {
	l.errs = append(l.errs, &Error{path, value, err})
}

// Addf adds a fault with a text as [fmt.Errorf] makes it.
func (l *List) Addf(path string, value any, format string, args ...any) {
	l.Add(path, value, fmt.Errorf(format, args...))
}

// Constant adds a fault if v, whose type has constants with texts, is none of
// them.
func (l *List) Constant(path string, v encoding.TextMarshaler) {
	_, err := v.MarshalText()
	if err == nil {
		return
	}
	if cause := errors.Unwrap(err); cause != nil {
		err = cause // the value is shown already
	}
	if reflect.ValueOf(v).IsZero() {
		l.Addf(path, nil, "missing: %s", strings.TrimPrefix(err.Error(), "not "))
		return
	}
	l.Add(path, v, err)
}

// AddUnder adds the faults of err, which belong to the value at path. A nil
// err adds nothing.
func (l *List) AddUnder(path string, err error) {
	if err = Under(path, err); err != nil {
		l.errs = append(l.errs, Leaves(err)...)
	}
}

// Len returns the number of faults.
func (l *List) Len() int { return len(l.errs) }

// Err returns the faults in the order in which they were added, joined; nil if
// there are none.
func (l *List) Err() error { return errors.Join(l.errs...) }

// Under returns err with path put before the path of each of its faults. An
// error that is no fault of a field becomes one of the field at path. Under
// returns nil for nil.
func Under(path string, err error) error {
	return Map(err, func(err error) error {
		if fault, ok := err.(*Error); ok { //nolint:errorlint // a fault that something else wraps has a text of its own
			return &Error{Join(path, fault.Path), fault.Value, fault.Err}
		}
		return &Error{path, nil, err}
	})
}

// Rename returns err with to, which may be empty, in place of from in the paths
// of its faults: those of from itself, of its items and of what stands in it.
func Rename(from, to string, err error) error {
	return Map(err, func(err error) error {
		fault, ok := err.(*Error) //nolint:errorlint // as in Under
		if !ok {
			return err
		}
		rest, ok := strings.CutPrefix(fault.Path, from)
		if !ok || rest != "" && rest[0] != '.' && rest[0] != '[' {
			return err
		}
		return &Error{Join(to, strings.TrimPrefix(rest, ".")), fault.Value, fault.Err}
	})
}

// Map returns the errors that err joins, in order, each as f makes it; nil for
// nil.
func Map(err error, f func(error) error) error {
	if err == nil {
		return nil
	}
	all := Leaves(err)
	mapped := make([]error, len(all))
	for i, e := range all {
		mapped[i] = f(e)
	}
	return errors.Join(mapped...)
}

// Join joins two paths: "pools[0]" and "servers[1]" are "pools[0].servers[1]",
// "rules" and "[3].name" are "rules[3].name".
func Join(outer, inner string) string {
	if outer == "" || inner == "" || inner[0] == '[' {
		return outer + inner
	}
	return outer + "." + inner
}

// Index returns path with a position in its list: "rules[3]".
func Index(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// Key returns path with a key of its mapping: `servers["a"]`.
func Key(path, key string) string { return path + "[" + strconv.Quote(key) + "]" }

// Name returns the name of a field in a path: that of Go with the first word in
// lower case, as in "healthMonitors", "ttl", "http2", "xForwardedFor" and
// "ipGroups".
func Name(field string) string {
	if rest, ok := strings.CutPrefix(field, "IPv"); ok {
		return "ipv" + rest
	}
	upper := 0
	for upper < len(field) && ('A' <= field[upper] && field[upper] <= 'Z' || upper > 0 && '0' <= field[upper] && field[upper] <= '9') {
		upper++
	}
	if upper > 1 && upper < len(field) {
		upper-- // the last one begins the next word
	}
	return strings.ToLower(field[:upper]) + field[upper:]
}

// Leaves returns the errors that err joins, in order; err itself if it joins
// none, and nothing for nil.
func Leaves(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, Leaves(e)...)
	}
	return all
}
