package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Profiles whose cookies clients confuse were accepted in silence: clients lost
// their servers.
func TestWarningsOfSharedCookies(t *testing.T) {
	const key = `keys: [{id: a, secret: MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=}]`
	const pools = "pools: [{name: web, servers: [{address: 192.0.2.1}]}, {name: api, servers: [{address: 192.0.2.2}]}]\n"
	profiles := func(list ...string) string {
		return "persistenceProfiles: [" + strings.ReplaceAll(strings.Join(list, ", "), "KEY", key) + "]\n"
	}
	const shared = "{name: c, httpCookie: {name: A, KEY}}"
	two := func(first, second string) string {
		return pools + "listeners: [{name: x, address: ':1'}, {name: y, address: ':2'}]\nservices:\n" +
			"  - {name: one, pools: [web], persistence: c, " + first + "}\n  - {name: two, pools: [web], persistence: c, " + second + "}\n"
	}
	const again = `text:6:5: services[1]: the cookie "A" is also that of persistenceProfiles[0].httpCookie (text:1:45) in service "one", for the same host: clients lose their servers`
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"one profile of two pools", profiles(shared) + pools + "persistence: c\n", nil},
		{"two names", profiles(shared, "{name: d, httpCookie: {name: B, KEY}}") +
			"pools: [{name: web, servers: [{address: 192.0.2.1}], persistence: c}, {name: api, servers: [{address: 192.0.2.2}], persistence: d}]\n", nil},
		{"one name", profiles("{name: c, httpCookie: {name: A, KEY}}", "{name: d, httpCookie: {name: A, KEY}}") +
			"pools: [{name: web, servers: [{address: 192.0.2.1}], persistence: c}, {name: api, servers: [{address: 192.0.2.2}], persistence: d}]\n", []string{
			`the cookie "A" is also that of persistenceProfiles[`,
		}},
		{"a derived name", profiles(shared, "{name: d, httpCookie: {name: A.api, KEY}}") +
			"pools: [{name: web, servers: [{address: 192.0.2.1}]}, {name: api, servers: [{address: 192.0.2.2}]}, {name: x, servers: [{address: 192.0.2.3}], persistence: d}]\npersistence: c\n", []string{
			`the cookie "A.api" is also that of persistenceProfiles[0].httpCookie (text:1:`,
		}},
		{"a cookie of the application", profiles(shared, "{name: d, appCookie: {name: A}}") +
			"pools: [{name: web, servers: [{address: 192.0.2.1}], persistence: c}, {name: api, servers: [{address: 192.0.2.2}], persistence: d}]\n", []string{
			`the cookie "A" is also that of persistenceProfiles[`,
		}},
		{"two services at one listener", profiles(shared) + two("hosts: [a.example.com], listeners: [x]", "hosts: [b.example.com], listeners: [x]"), nil},
		{"an exact host before a wildcard", profiles(shared) + two("hosts: [a.example.com]", "hosts: ['*.example.com']"), nil},
		{"one host at two listeners", profiles(shared) + two("hosts: [a.example.com], listeners: [x]", "hosts: [a.example.com], listeners: [y]"), []string{again}},
		{"a wildcard elsewhere", profiles(shared) + two("hosts: ['*.example.com'], listeners: [x]", "hosts: [a.b.example.com], listeners: [y]"), []string{again}},
		{"any host elsewhere", profiles(shared) + two("listeners: [x]", "hosts: [a.example.com], listeners: [y]"), []string{again}},
		{"a domain", profiles("{name: c, httpCookie: {name: A, domain: example.com, KEY}}") + two("hosts: [a.example.com]", "hosts: [b.example.com]"), []string{
			`services[1]: the cookie "A" is also that of persistenceProfiles[0].httpCookie`,
		}},
		{"one application in two services", profiles("{name: c, appCookie: {name: A}}") + two("listeners: [x]", "listeners: [y]"), nil},
	} {
		f, err := Parse(t.Context(), "text", []byte(c.text), nil)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var got []string
		for _, w := range f.Warnings() {
			got = append(got, w.Error())
		}
		if len(got) == len(c.want) {
			for i, want := range c.want {
				if strings.Contains(got[i], want) && strings.HasPrefix(got[i], "text:") {
					got[i] = want
				}
			}
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

// The schema had keys of servers in discoveries that were always refused, or
// ignored.
func TestFoundServersHaveNoNames(t *testing.T) {
	schema := string(Schema())
	for _, finder := range []string{"dns: {name: a.example.com, server: {%: x}}", "ipGroup: {group: g, server: {%: x}}"} {
		for _, key := range []string{"address", "name"} {
			text := "pools: [{name: a, discoveries: [{finder: {" + strings.Replace(finder, "%", key, 1) + "}}]}]\nipGroups: [{name: g, entries: [192.0.2.1]}]\n"
			if _, err := Parse(t.Context(), "text", []byte(text), nil); err == nil || !strings.Contains(err.Error(), "unknown field") {
				t.Errorf("%s: %v", text, err)
			}
		}
	}
	if !strings.Contains(schema, `"foundServer"`) {
		t.Error("the schema has no type for them")
	}
}
