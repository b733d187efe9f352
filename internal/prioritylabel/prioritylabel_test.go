package prioritylabel

import (
	"slices"
	"testing"
)

// Operators that label the members of a group with hosts and paths ask for the
// label of the request, which no member has exactly: every request got a 500.
func TestFind(t *testing.T) {
	hosts := []string{"a.example/", "a.example/foo", "b.example", "c.example:8080/x/", "[2001:db8::1]/", "3"}
	implicit := Rules{Implicit: true}
	for _, tt := range []struct {
		name   string
		rules  Rules
		labels []string
		asked  string
		want   string // empty: none
	}{
		{"below", implicit, hosts, "a.example/foo/bar", "a.example/foo"},
		{"itself", implicit, hosts, "a.example/foo", "a.example/foo"},
		{"with a slash", implicit, hosts, "a.example/foo/", "a.example/foo"},
		{"not at a slash", implicit, hosts, "a.example/foobar", "a.example/"},
		{"host alone is asked for", implicit, hosts, "a.example", "a.example/"},
		{"host alone is a label", implicit, hosts, "b.example/any/path", "b.example"},
		{"case of the host", implicit, hosts, "A.Example/foo", "a.example/foo"},
		{"case of the path", implicit, hosts, "a.example/FOO", "a.example/"},
		{"port of the request", implicit, hosts, "a.example:8443/foo", "a.example/foo"},
		{"port of the label", implicit, hosts, "c.example/x/y", "c.example:8080/x/"},
		{"label that ends in a slash", implicit, hosts, "c.example/x", ""},
		{"IPv6", implicit, hosts, "[2001:db8::1]:80/x", "[2001:db8::1]/"},
		{"number", implicit, hosts, "3", "3"},
		{"another number", implicit, hosts, "33", ""},
		{"another host", implicit, hosts, "x.example/foo", ""},
		{"host that begins alike", implicit, hosts, "a.example.org/foo", ""},
		{"fallback", Rules{Implicit: true, Fallback: "a.example/"}, hosts, "x.example/foo", "a.example/"},
		{"fallback alone", Rules{Fallback: "3"}, hosts, "a.example/foo/bar", "3"},
		{"exact before the fallback", Rules{Fallback: "3"}, hosts, "a.example/foo", "a.example/foo"},
		{"neither", Rules{}, hosts, "a.example/foo/bar", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, ok := tt.rules.Find(slices.Values(tt.labels), tt.asked); got != tt.want || ok != (tt.want != "") {
				t.Errorf("Find(%q) = %q, %v, want %q", tt.asked, got, ok, tt.want)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		labels []string
		good   bool
	}{
		{[]string{"a.example/", "a.example/foo", "a.example/foo", "b.example/"}, true},
		{[]string{"a.example/", "A.example"}, false},
		{[]string{"a.example/x", "a.example:80/x"}, false},
	} {
		if err := (Rules{Implicit: true}).Check(tt.labels); (err == nil) != tt.good {
			t.Errorf("%q: %v", tt.labels, err)
		}
		if err := (Rules{}).Check(tt.labels); err != nil {
			t.Errorf("%q without implicit labels: %v", tt.labels, err)
		}
	}
}
