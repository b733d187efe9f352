package datascripttest

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// FuzzParseCase: no text makes the parser panic, and an update without changes
// changes nothing.
func FuzzParseCase(f *testing.F) {
	f.Add([]byte(minimal))                                                                                        // the least that is a case
	f.Add([]byte(passing))                                                                                        // all kinds of sections
	f.Add([]byte("-- listing.lua --\n-- HTTP Request Event --\n-- HTTP_RESP --\n-- request --\n"))                // headings that look like sections
	f.Add([]byte("-- HTTP_REQ --\n-- want/log --\nlast line without a break"))                                    // a heading outside of a listing
	f.Add([]byte("-- pools --\npool a\nserver 10.0.0.1:80\n-- request --\n# down a 10.0.0.1\n"))                  // a directive that reaches into another section
	f.Add([]byte(minimal + "-- response --\n# fails\nHTTP/1.1 200 OK\nA: b\n\n\nbody\n\n"))                       // bodies, and empty lines in them
	f.Add([]byte(minimal + "-- tables --\n\"a\\x00\" \"\" 1ns\n-- ipgroups --\ngroup \"\" ::1/0 ::ffff:1.2.3.4")) // quotations and odd addresses
	files, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files { // what people write
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseCase("x.txtar", data)
		if err != nil {
			return
		}
		if len(c.steps) == 0 || len(c.scripts) == 0 || len(c.answers) > max(len(c.steps), 1) {
			t.Fatalf("%d scripts, %d requests, %d responses", len(c.scripts), len(c.steps), len(c.answers))
		}
		for _, s := range c.scripts {
			for _, ch := range s.chunks {
				ch.expectations(s.name)
			}
		}
		same := map[string]string{}
		for name, s := range c.want {
			same[name] = s.text
		}
		updated, err := c.update(data, same)
		if err != nil {
			t.Fatal(err)
		}
		if want := completeLines(data); string(updated) != string(want) {
			t.Fatalf("updated to %q, want %q", updated, want)
		}
	})
}

// FuzzEntries: entries that can be read are read the same after they were
// written.
func FuzzEntries(f *testing.F) {
	f.Add("k v 300s")                 // the default table
	f.Add("t k v 1h2m3.5s\na b 1s")   // a fraction of a second, and an order that is not sorted
	f.Add("\"\" \"#\" \"\\xff\" 1ns") // words that must be quoted
	f.Add("\"\u00a0\" \u2028 1s")     // blanks that are not ASCII
	f.Fuzz(func(t *testing.T, text string) {
		s := &section{name: "tables", text: text}
		entries, err := s.entries()
		if err != nil {
			return
		}
		written := &section{name: "written", text: formatEntries(entries)}
		again, err := written.entries()
		if err != nil || !slices.Equal(entries, again) {
			t.Fatalf("%q was written as %q: %v, %v", entries, written.text, again, err)
		}
	})
}
