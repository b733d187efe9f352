package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/limpetlb/limpet/datascript"
)

// maxScriptFile is more than all events of a script may have together.
const maxScriptFile = 1 << 20

// loadScript compiles the script in a file. It has event headings, unless an
// event is given, or the file is called like one: "http_req.lua". A file that
// is called like an event of another protocol may still be a listing. An empty
// name means that of the file without ".lua".
func loadScript(file, name string, ev datascript.Event) (*datascript.Script, error) {
	source, err := readFile(file, maxScriptFile)
	if err != nil {
		return nil, err
	}
	base := scriptName(file)
	var unsupported error
	if ev == 0 {
		ev, err = datascript.ParseEvent(base) // a listing, if there is no such event
		if errors.As(err, new(*datascript.UnsupportedEventError)) {
			unsupported = err
		}
	}
	script, err := datascript.Compile(cmp.Or(name, base), datascript.Chunk{Event: ev, Source: string(source)})
	if err != nil && unsupported != nil {
		err = unsupported
	}
	return script, err
}

// scriptName is the name of a script that is given none.
func scriptName(file string) string { return strings.TrimSuffix(filepath.Base(file), ".lua") }

// readFile reads a file of at most max bytes, without a byte order mark.
func readFile(name string, max int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, max+1))
	if err == nil && int64(len(data)) > max {
		err = fmt.Errorf("%s: longer than %d bytes", name, max)
	}
	return bytes.TrimPrefix(data, []byte("\ufeff")), err
}
