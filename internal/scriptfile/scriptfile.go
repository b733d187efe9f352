// Package scriptfile makes a script of a file: the file says which events it is
// for, by its headings or by its name.
package scriptfile

import (
	"cmp"
	"errors"
	"path/filepath"
	"strings"

	"github.com/limpetlb/limpet/datascript"
)

// MaxBytes is more than all events of a script may have together.
const MaxBytes = 1 << 20

// Compile compiles the script in a file. It has event headings, unless an event
// is given, or the file is called like one: "http_req.lua". A file that is
// called like an event of another protocol may still be a listing. An empty
// name means [Name].
func Compile(file, name string, ev datascript.Event, source string) (*datascript.Script, error) {
	base := Name(file)
	var unsupported error
	if ev == 0 {
		var err error
		ev, err = datascript.ParseEvent(base) // a listing, if there is no such event
		if errors.As(err, new(*datascript.UnsupportedEventError)) {
			unsupported = err
		}
	}
	script, err := datascript.Compile(cmp.Or(name, base), datascript.Chunk{Event: ev, Source: source})
	if err != nil && unsupported != nil {
		err = unsupported
	}
	return script, err
}

// Name is the name of a script that is given none.
func Name(file string) string { return strings.TrimSuffix(filepath.Base(file), ".lua") }
