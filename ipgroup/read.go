package ipgroup

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/internal/filewatch"
)

// Read makes a group from text: entries separated by commas, line feeds or
// both, as in a CSV file. It ignores a UTF-8 byte-order mark at the start,
// carriage returns at the ends of lines, and double quotes around an entry.
// Errors are those of [Parse], with lines and columns of the text, and those of
// r.
//
// Read reads at most [Options.MaxBytes] from r, and one byte more to detect a
// longer text.
func Read(name string, r io.Reader, o Options) (*Group, error) {
	text, err := readAll(r, o.maxBytes())
	if err != nil {
		return nil, fmt.Errorf("ip group %q: %w", excerpt(name), err)
	}
	p := newParser(name, o)
	p.file(text)
	return p.group()
}

// ReadFile is [Read] for the file at path. Anything but a regular file (a
// directory, a named pipe, a device) is an error and does not block. ReadFile
// closes the file before it returns.
func ReadFile(name, path string, o Options) (*Group, error) {
	return File{name, path, o}.parse(filewatch.ReadFile(path, o.maxBytes()))
}

// parse makes the group from the content of the file, or wraps the error of
// reading it.
func (f File) parse(content []byte, err error) (*Group, error) {
	if err != nil {
		if errors.Is(err, filewatch.ErrTooLarge) {
			err = fmt.Errorf("%w: %w", ErrTooLarge, err)
		}
		return nil, fmt.Errorf("ip group %q: %w", excerpt(f.Group), err)
	}
	p := newParser(f.Group, f.Options)
	p.file(string(content))
	g, err := p.group()
	if err != nil {
		return nil, fielderr.Map(err, func(err error) error { return fmt.Errorf("%s: %w", f.Path, err) })
	}
	return g, nil
}

func readAll(r io.Reader, limit int64) (string, error) {
	if limit >= 0 {
		r = &io.LimitedReader{R: r, N: limit + 1}
	}
	var text strings.Builder
	n, err := io.Copy(&text, r)
	if err != nil {
		return "", err
	}
	if limit >= 0 && n > limit {
		return "", fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)
	}
	return text.String(), nil
}
