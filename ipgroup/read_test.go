package ipgroup

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

func TestRead(t *testing.T) {
	tests := []struct{ name, text, in, out string }{
		{"lines", "10.0.0.1\n10.0.0.3\n", "10.0.0.1 10.0.0.3", "10.0.0.2"},
		{"no line feed at the end", "10.0.0.1\n10.0.0.3", "10.0.0.1 10.0.0.3", "10.0.0.2"},
		{"commas", "10.0.0.1,10.0.0.3", "10.0.0.1 10.0.0.3", "10.0.0.2"},
		{"CSV", "10.0.0.1,10.0.0.3,\n10.0.0.5,,\n,,\n", "10.0.0.1 10.0.0.3 10.0.0.5", "10.0.0.2"},
		{"CRLF", "10.0.0.1\r\n10.0.0.3,10.0.0.5\r\n\r\n", "10.0.0.1 10.0.0.3 10.0.0.5", "10.0.0.2"},
		{"byte-order mark", "\ufeff10.0.0.1\n", "10.0.0.1", "10.0.0.2"},
		{"byte-order mark and comment", "\ufeff# list\n10.0.0.1\n", "10.0.0.1", "10.0.0.2"},
		{"quotes", "\"10.0.0.1\",\"10.0.0.3\"\r\n", "10.0.0.1 10.0.0.3", "10.0.0.2"},
		{"comments", "# 1.1.1.1\n10.0.0.1 # LA, old: 2.2.2.2\n#\n", "10.0.0.1", "1.1.1.1 2.2.2.2"},
		{"all kinds", "10.0.0.1\n10.0.1.0/24, 10.0.2.1 – 10.0.2.9\n2001:db8::/32\n", "10.0.0.1 10.0.1.9 10.0.2.9 2001:db8::1", "10.0.2.10"},
		{"blanks", " \t10.0.0.1\t \n\v\n", "10.0.0.1", "10.0.0.2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, r := range []io.Reader{strings.NewReader(tt.text), iotest.OneByteReader(strings.NewReader(tt.text))} {
				g, err := Read("g", r, Options{})
				if err != nil {
					t.Fatal(err)
				}
				for addr := range strings.FieldsSeq(tt.in) {
					contains(t, g, addr, true)
				}
				for addr := range strings.FieldsSeq(tt.out) {
					contains(t, g, addr, false)
				}
			}
		})
	}
}

func TestReadFaults(t *testing.T) {
	_, err := Read("Office", strings.NewReader("\ufeff# offices\r\n10.0.0.1,10.0.0.300\r\n\r\n  10.0.1.0/33\r\n"), Options{})
	const want = `ip group "Office": line 2, column 10: "10.0.0.300" is not an address, range, prefix, country code or AS number
ip group "Office": line 4, column 3: "10.0.1.0/33" is not a prefix`
	if err == nil || err.Error() != want {
		t.Errorf("got:\n%v\nwant:\n%s", err, want)
	}
	var e *EntryError
	if !errors.As(err, &e) {
		t.Fatal("no *EntryError")
	}
	if diff := cmp.Diff(&EntryError{Group: "Office", Index: -1, Line: 2, Column: 10, Text: "10.0.0.300", Reason: e.Reason}, e); diff != "" {
		t.Error(diff)
	}
}

func TestReadRefuses(t *testing.T) {
	broken := errors.New("broken")
	tests := []struct {
		name string
		r    io.Reader
		o    Options
		is   error
		text string
	}{
		{"empty", strings.NewReader(""), Options{}, ErrEmpty, `"g"`},
		{"byte-order mark only", strings.NewReader("\ufeff"), Options{}, ErrEmpty, `"g"`},
		{"comments only", strings.NewReader("# 10.0.0.1\n"), Options{}, ErrEmpty, `"g"`},
		{"NUL bytes", strings.NewReader("\x00\x00\x00\x00"), Options{}, nil, `"\x00\x00\x00\x00" is not an address`},
		{"UTF-16, little-endian", strings.NewReader("\xff\xfe1\x000\x00"), Options{}, nil, "UTF-16"},
		{"UTF-16, big-endian", strings.NewReader("\xfe\xff\x001\x000"), Options{}, nil, "UTF-16"},
		{"read error", iotest.ErrReader(broken), Options{}, broken, `"g"`},
		{"read error after a good entry", io.MultiReader(strings.NewReader("10.0.0.1\n"), iotest.ErrReader(broken)), Options{}, broken, `"g"`},
		{"too many bytes", strings.NewReader("10.0.0.1\n10.0.0.2"), Options{MaxBytes: 16}, ErrTooLarge, "16 bytes"},
		{"too many entries", strings.NewReader("10.0.0.1\n10.0.0.2"), Options{MaxEntries: 1}, ErrTooLarge, "1 entries"},
		{"endless", endless{}, Options{}, ErrTooLarge, "bytes"},
		{"one bad line among good ones", strings.NewReader(strings.Repeat("10.0.0.1\n", 5000) + "oops\n10.0.0.2\n"), Options{}, nil, "line 5001"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g, err := Read("g", tt.r, tt.o)
			if g != nil || err == nil {
				t.Fatalf("Read = %v, %v; want an error", g, err)
			}
			if tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("%v does not wrap %v", err, tt.is)
			}
			if !strings.Contains(err.Error(), tt.text) {
				t.Errorf("%v does not say %s", err, tt.text)
			}
		})
	}
}

// endless is a list without end.
type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = "10.0.0.1\n"[i%9]
	}
	return len(b), nil
}

func TestReadAtTheLimit(t *testing.T) {
	for _, limit := range []int64{17, -1, 0} {
		if _, err := Read("g", strings.NewReader("10.0.0.1\n10.0.0.2"), Options{MaxBytes: limit}); err != nil {
			t.Errorf("limit %d: %v", limit, err)
		}
	}
	if _, err := Read("g", strings.NewReader(""), Options{AllowEmpty: true}); err != nil {
		t.Error(err)
	}
}

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) (path string) {
		path = filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	g, err := ReadFile("Office", write("good.csv", "10.0.0.1\n"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	contains(t, g, "10.0.0.1", true)
	if g.Name() != "Office" {
		t.Errorf("Name() = %q", g.Name())
	}

	link := filepath.Join(dir, "link.csv")
	if err := os.Symlink("good.csv", link); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFile("Office", link, Options{}); err != nil {
		t.Errorf("symbolic link: %v", err)
	}

	for path, want := range map[string]string{
		write("bad.csv", "10.0.0.1\n10.0.0.300\n"): "line 2, column 1",
		write("empty.csv", ""):                     ErrEmpty.Error(),
		dir:                                        "not a regular file",
		os.DevNull:                                 "not a regular file",
		filepath.Join(dir, "none.csv"):             "no such file",
	} {
		g, err := ReadFile("Office", path, Options{})
		if g != nil || err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "Office") {
			t.Errorf("ReadFile(%s) = %v, %v; want an error with %q, the path and the group", path, g, err, want)
		}
	}
	if _, err := ReadFile("Office", filepath.Join(dir, "none.csv"), Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v is not ErrNotExist", err)
	}
}
