package policy

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestReadStringCSVStrictly(t *testing.T) {
	for _, c := range []struct {
		name, in string
		kind     StringGroupKind
		entries  int
		want     []string // parts of the error
	}{
		{"list", "\ufeffa\n\nb,\n \"c,d\" \n", StringList, 3, []string{`line 4`}}, // a bare quote
		{"good list", "\ufeffa\r\n\r\nb,,\r\n\"c,d\"\n", StringList, 3, nil},
		{"good map", "a,1\nb,2,3\n", StringMap, 2, nil},
		{"value in a list", "a\nb,1,2\nc\nd,3", StringList, 0, []string{`line 2: "b" has the value "1,2", in a list`, `line 4: "d" has the value "3"`}},
		{"no value in a map", "a,1\nb\nc,", StringMap, 0, []string{`line 2: "b" has no value, in a map`, `line 3: "c" has no value`}},
		{"twice", "Foo\nbar\nfoo", StringList, 0, []string{`line 3: "foo" is already in line 1`}},
		{"empty key", "a\n ,\nb\n,x", StringList, 0, []string{"line 2: the key is empty", "line 4: the key is empty"}},
		{"many", strings.Repeat("a,b\n", 1500), StringList, 0, []string{"line 1000: ", "500 more bad lines"}},
		{"too large", "a\n" + strings.Repeat("b", maxStringGroupBytes), StringList, 0, []string{"line 2: keys of more than"}},
	} {
		entries, err := ReadStringCSV(strings.NewReader(c.in), c.kind, true)
		if (err == nil) != (c.want == nil) || err == nil && len(entries) != c.entries || err != nil && entries != nil {
			t.Errorf("%s: %d entries, %v", c.name, len(entries), err)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error does not say %q:\n%.300v", c.name, want, err)
			}
		}
	}
}

func TestStringGroupWatcher(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agents.csv")
	put := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	steps := []struct {
		name   string
		change func()
		finds  string // the value for "curl"
		events int
		is     error  // what the event's error wraps
		text   string // what it says
	}{
		{"nothing", func() {}, "1", 0, nil, ""},
		{"rewritten", func() { put("curl,2\n") }, "2", 1, nil, ""},
		{"rewritten as it is", func() { put("curl,2\n") }, "2", 0, nil, ""},
		{"bad line", func() { put("wget,1\ncurl\n") }, "2", 1, nil, `line 2: "curl" has no value`},
		{"empty", func() { put("") }, "2", 1, errEmptyGroup, "no entries"},
		{"missing", func() { _ = os.Remove(path) }, "2", 1, fs.ErrNotExist, "no such file"},
		{"still missing", func() {}, "2", 0, nil, ""},
		{"back", func() { put("curl,3\n") }, "3", 1, nil, ""},
		{"too large", func() { put(""); _ = os.Truncate(path, maxStringFileBytes+1) }, "3", 1, nil, "too large"},
	}
	put("curl,1\n")
	synctest.Test(t, func(t *testing.T) {
		groups := new(StringGroups)
		type event struct {
			file StringGroupFile
			err  error
		}
		events := make(chan event, 10)
		file := StringGroupFile{Path: path, Group: StringGroupConfig{Name: "Agents", Kind: StringMap}, Strict: true}
		w, err := NewStringGroupWatcher(groups, []StringGroupFile{file}, func(file StringGroupFile, err error) { events <- event{file, err} })
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go w.Run(ctx)
		for _, step := range steps {
			step.change()
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if got, ok, err := groups.Match("Agents", "contains", "a curl/8", false); got != step.finds || !ok || err != nil {
				t.Errorf("%s: finds %q, %v, %v; want %q", step.name, got, ok, err, step.finds)
			}
			if len(events) != step.events {
				t.Errorf("%s: %d events, want %d", step.name, len(events), step.events)
			}
			for len(events) > 0 {
				e := <-events
				if e.file.Group.Name != "Agents" || e.file.Path != path || (e.err == nil) != (step.text == "") || step.is != nil && !errors.Is(e.err, step.is) {
					t.Errorf("%s: event %+v", step.name, e)
				}
				if e.err != nil && (!strings.Contains(e.err.Error(), step.text) || !strings.Contains(e.err.Error(), path) || !strings.Contains(e.err.Error(), `string group "Agents"`)) {
					t.Errorf("%s: %v", step.name, e.err)
				}
			}
		}
	})
}

func TestNewStringGroupWatcherFaults(t *testing.T) {
	path := filepath.Join(t.TempDir(), "list.csv")
	if err := os.WriteFile(path, []byte("a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	groups := new(StringGroups)
	named := func(path, name string) StringGroupFile {
		return StringGroupFile{Path: path, Group: StringGroupConfig{Name: name}}
	}
	withEntries := named(path, "x")
	withEntries.Group.Entries = []StringEntry{{Key: "k"}}
	for _, c := range []struct {
		groups *StringGroups
		files  []StringGroupFile
		want   []string
	}{
		{nil, nil, []string{"groups: missing"}},
		{groups, []StringGroupFile{named(path, "a"), withEntries, named(path, "a")}, []string{
			"files[1].group.entries: entries come from the file alone", `files[2].group.name: "a": already the name of the group of files[0]`,
		}},
		{groups, []StringGroupFile{named(path, "a"), named(path, ""), named(path+"/none", "c")}, []string{`files[1]: string group "": name: `, `files[2]: string group "c": `}},
	} {
		w, err := NewStringGroupWatcher(c.groups, c.files, nil)
		if w != nil || err == nil {
			t.Errorf("%+v: %v, %v", c.files, w, err)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("error does not say %q: %v", want, err)
			}
		}
	}
	if names := groups.Names(); len(names) > 0 {
		t.Errorf("a failure has left %v", names)
	}
	empty := named(path, "a")
	empty.AllowEmpty = true
	w, err := NewStringGroupWatcher(groups, []StringGroupFile{empty}, nil)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := w.Run(ctx); err != nil {
			t.Error(err)
		}
		if g, ok := groups.Group("a"); !ok || g.Len() != 0 {
			t.Error("an empty list that is allowed is not taken")
		}
	})
}

// attributesGeo knows one attribute.
type attributesGeo struct{ fakeGeo }

func (attributesGeo) Knows(attribute string) bool { return attribute == "CITY_NAME" }

func TestGeoAttributeIsChecked(t *testing.T) {
	env := Env{Geo: attributesGeo{}}
	for attribute, want := range map[string]bool{"CITY_NAME": true, "": false, "CITY": false} {
		_, err := NewNetworkSecurity([]NetworkRule{{Name: "r", Match: NetworkMatch{Geo: &GeoMatch{Attribute: attribute, Values: []string{"x"}}}, Action: ActionReset}}, env)
		if ok := err == nil; ok != want {
			t.Errorf("attribute %q: %v", attribute, err)
		}
		if err != nil && !strings.Contains(err.Error(), `rules[0].match.geo.attribute: "`+attribute+`": the geo data has no such attribute`) {
			t.Errorf("attribute %q: %v", attribute, err)
		}
	}
}
