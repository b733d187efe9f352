package fielderr

import (
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"
)

// MaxName is how long the name of an object may be, in bytes: each line of a
// log repeats it.
const MaxName = 255

// CheckName returns what is wrong with the name of an object, such as a pool or
// a rule: it must not be empty, not be longer than max bytes, and be printable.
// So logs, metrics and pages can show names as they are. A name that is not
// printable has control characters, changes the direction of text, separates
// lines, has blanks other than U+0020, or is not UTF-8.
func CheckName(name string, max int) error {
	switch {
	case name == "":
		return errMissing
	case len(name) > max:
		return fmt.Errorf("longer than %d bytes", max)
	case !IsPrintable(name):
		return errNotPrintable
	}
	return nil
}

var (
	errMissing      = errors.New("missing")
	errNotPrintable = errors.New("not printable text")
)

// IsPrintable reports whether a text is UTF-8 without characters that are not
// printable; see [CheckName].
func IsPrintable(s string) bool {
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return utf8.ValidString(s)
}

// Name adds the fault of a name, as [CheckName] finds it with [MaxName].
func (l *List) Name(path, name string) {
	switch err := CheckName(name, MaxName); {
	case err == nil:
	case name == "":
		l.Add(path, nil, err)
	default:
		l.Add(path, name, err)
	}
}

// OptionalName is Name for a name that may be empty.
func (l *List) OptionalName(path, name string) {
	if name != "" {
		l.Name(path, name)
	}
}
