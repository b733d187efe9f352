package config

import (
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet/internal/redistest"
	"github.com/limpetlb/limpet/internal/testfiles"
)

// fourServers are servers that answer with their names, and begin a session.
func fourServers(t *testing.T) string {
	t.Helper()
	var all []string
	for range 2 {
		a, b := twoServers(t)
		all = append(all, "{address: "+a+"}", "{address: "+b+"}")
	}
	return "servers: [" + strings.Join(all, ", ") + "], algorithm: roundRobin"
}

// outcome is the outcome of the binding of a request.
func (h *house) outcome(host string, jar http.CookieJar) string {
	h.Helper()
	r, err := http.NewRequestWithContext(h.Context(), http.MethodGet, "http://"+h.at["listen"]+"/", nil)
	if err != nil {
		h.Fatal(err)
	}
	r.Host = host
	client := &http.Client{Jar: jar, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(r)
	if err != nil {
		h.Fatal(err)
	}
	defer res.Body.Close()
	return res.Header.Get("X-Persistence")
}

const bindings = `persistenceProfiles: [{name: lb, clientIP: {mask4: 24}}, {name: cookie, httpCookie: {keys: [{id: a, secret: MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=}]}}]
pools: [{name: web, SERVERS, persistence: lb}, {name: api, SERVERS}]
services:
  - {name: a, hosts: [a], pools: [web], persistenceHeader: X-Persistence, tables: {TABLES}}
  - {name: b, hosts: [b], pools: [api], persistenceHeader: X-Persistence, tables: {TABLES2}, persistence: lb}
  - {name: c, hosts: [c], pools: [{name: own, SERVERS, persistence: p}], persistenceProfiles: [{name: p, clientIP: {}}], persistenceHeader: X-Persistence, tables: {TABLES3}}
  - {name: d, hosts: [d], pools: [{name: own, SERVERS}], persistence: {clientIP: {}}, persistenceHeader: X-Persistence, tables: {TABLES4}}
  - {name: e, hosts: [e], pools: [web], persistenceHeader: X-Persistence}
  - {name: f, hosts: [f], pools: [api], persistenceHeader: X-Persistence, persistence: cookie}
`

// The clients of persistence profiles are in the tables of the service, so a
// file has them after a restart; those of a service whose tables are in memory
// are not.
func TestBindingsInFile(t *testing.T) {
	dir := t.TempDir()
	text := strings.ReplaceAll(bindings, "SERVERS", fourServers(t))
	for i, name := range []string{"{TABLES}", "{TABLES2}", "{TABLES3}", "{TABLES4}"} {
		text = strings.Replace(text, name, fmt.Sprintf("{file: %s/%d.snap}", dir, i), 1)
	}
	files := map[string]string{"limpet.yaml": text}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	check := func(h *house, want map[string]string) {
		t.Helper()
		for host, outcome := range want {
			if got := h.outcome(host, jar); got != outcome {
				t.Errorf("%s: %s, not %s", host, got, outcome)
			}
		}
	}
	first := open(t, files, Options{})
	check(first, map[string]string{"a": "miss", "b": "miss", "c": "miss", "d": "miss", "e": "miss", "f": "miss"})
	check(first, map[string]string{"a": "hit", "b": "hit", "c": "hit", "d": "hit", "e": "hit", "f": "hit"})
	if _, err := first.rewrite(strings.Replace(text, "mask4: 24", "mask4: 24, timeout: 1h", 1)); err != nil {
		t.Fatal(err)
	}
	check(first, map[string]string{"a": "hit", "b": "hit", "c": "hit", "d": "hit", "e": "hit", "f": "hit"})
	if err := first.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	check(open(t, files, Options{}), map[string]string{"a": "hit", "b": "hit", "c": "hit", "d": "hit", "e": "miss", "f": "hit"})
}

// Private pools of one name, in services that share a profile, have clients of
// their own: each request of one service took the client away from the server
// of the other.
func TestBindingsOfPrivatePools(t *testing.T) {
	for name, store := range map[string]string{"memory": "", "store": "stores: [{name: main, file: tables.snap}]\n"} {
		t.Run(name, func(t *testing.T) {
			tables := ""
			if store != "" {
				tables = ", tables: {store: main}"
			}
			services := ""
			for _, host := range []string{"a", "b", "c", "d", "e"} {
				pool, more := "{name: web, "+fourServers(t)+", persistence: ip}", ""
				switch host {
				case "c", "d": // by the service
					pool, more = "{name: web, "+fourServers(t)+"}", ", persistence: ip"
				case "e": // a profile of its own, in a service of the shared one's name
					pool, more = "{name: web, "+fourServers(t)+"}", ", persistence: {clientIP: {}}"
				}
				name := host
				if host == "e" {
					name = "ip"
				}
				services += fmt.Sprintf("  - {name: %s, hosts: [%s], pools: [%s], persistenceHeader: X-Persistence%s%s}\n", name, host, pool, more, tables)
			}
			text := store + "persistenceProfiles: [{name: ip, clientIP: {}}]\nservices:\n" + services
			h := open(t, map[string]string{"limpet.yaml": text}, Options{})
			for round, want := range []string{"miss", "hit", "hit"} {
				for _, host := range []string{"a", "b", "c", "d", "e"} {
					if got := h.outcome(host, nil); got != want {
						t.Errorf("%s, request %d: %s, not %s", host, round+1, got, want)
					}
				}
				if round == 1 {
					if _, err := h.rewrite(strings.ReplaceAll(text, "persistenceHeader", "logging: {otherRate: 5}, persistenceHeader")); err != nil {
						t.Fatal(err)
					}
				}
			}
		})
	}
}

// Instances share the clients of profiles in a store on Redis, and services of
// the same store those of a pool and a profile that they share; private ones
// are their own.
func TestBindingsOnRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	text := strings.ReplaceAll(bindings, "SERVERS", fourServers(t))
	for _, name := range []string{"{TABLES}", "{TABLES2}", "{TABLES3}", "{TABLES4}"} {
		text = strings.Replace(text, name, "{store: main}", 1)
	}
	text = strings.Replace(text, "persistenceHeader: X-Persistence}\n", "persistenceHeader: X-Persistence, tables: {store: main}}\n", 1) // of e
	files := map[string]string{"limpet.yaml": fmt.Sprintf("stores: [{name: main, redis: {addresses: ['%s'], timeout: 20s}}]\n", server.Addr) + text}
	one, two := open(t, files, Options{}), open(t, files, Options{})
	for _, x := range []struct{ host, one, two string }{
		{"a", "miss", "hit"}, {"b", "miss", "hit"}, {"c", "miss", "hit"}, {"d", "miss", "hit"}, {"e", "hit", "hit"}, {"f", "miss", "miss"},
	} {
		if got := one.outcome(x.host, nil) + ", " + two.outcome(x.host, nil); got != x.one+", "+x.two {
			t.Errorf("%s: %s", x.host, got)
		}
	}
	var names []string
	for _, name := range []string{"profile/lb/web", "profile/lb/api", "profile/c%2Fp/own", "profile/d%2F/own"} {
		if !strings.Contains(server.Command("KEYS", "*"), name) {
			names = append(names, name)
		}
	}
	if names != nil {
		t.Errorf("no tables %v in %s", names, server.Command("KEYS", "*"))
	}
}

// A check warns, with the place, of cookies that no key of the file seals, and
// of bounds that do not apply.
func TestProfileWarnings(t *testing.T) {
	f, errs := loaded(t, map[string]string{"a.yaml": `persistenceProfiles: [{name: lb, httpCookie: {}}, {name: ip, clientIP: {maxEntries: 5, maxPerOwner: 1}}]
pools: [{name: web, servers: [{address: 10.0.0.1}], persistence: lb}, {name: api, servers: [{address: 10.0.0.1}], persistence: ip}]
services:
  - {name: a, hosts: [a], pools: [web, api], persistence: {httpCookie: {name: x}}, tables: {file: a.snap}}
  - {name: b, hosts: [b], pools: [api], persistence: {appCookie: {name: S, maxEntries: 3}}, tables: {file: b.snap}}
  - {name: c, hosts: [c], pools: [{name: own, servers: [{address: 10.0.0.1}], persistence: p}], persistenceProfiles: [{name: p, httpCookie: {}}]}
  - {name: d, pools: [{name: own, servers: [{address: 10.0.0.1}]}], persistence: {clientIP: {maxEntries: 3}}}
`}, "a.yaml")
	if errs != "" {
		t.Fatal(errs)
	}
	const (
		cookies = "persistence cookies have no configured keys: clients lose their servers at the next start"
		bounds  = "without effect: the clients are in the tables of the service, which have bounds of their own"
	)
	want := map[string]bool{
		"1:46: persistenceProfiles[0].httpCookie: " + cookies:              true,
		"1:85: persistenceProfiles[1].clientIP.maxEntries: " + bounds:      true,
		"1:101: persistenceProfiles[1].clientIP.maxPerOwner: " + bounds:    true,
		"4:59: services[0].persistence: " + cookies:                        true,
		"5:88: services[1].persistence.appCookie.maxEntries: " + bounds:    true,
		"6:141: services[2].persistenceProfiles[0].httpCookie: " + cookies: true,
	}
	got := map[string]bool{}
	for _, w := range f.Warnings() {
		_, text, _ := strings.Cut(w.Error(), "a.yaml:")
		got[text] = true
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

// A service may name its profile.
func TestNamedDefault(t *testing.T) {
	for text, want := range map[string]string{
		"persistence: lb":                    "",
		"persistence: none":                  "",
		"persistence: clientIP":              "",
		"persistence: {clientIP: {}}":        "",
		"persistence: lp":                    `a.yaml:2:14: persistence: there is no persistence profile "lp"; did you mean "lb"?`,
		"persistence: clientip":              `a.yaml:2:14: persistence: there is no persistence profile "clientip"; did you mean "clientIP"?`,
		"persistence: {clientip: {}}":        `a.yaml:2:15: persistence: "clientip" is not one of clientIP, appCookie, httpCookie, customHeader; did you mean "clientIP"?`,
		"persistence: [lb]":                  `a.yaml:2:14: persistence: want one of clientIP, appCookie, httpCookie, customHeader, not a list`,
		"persistence: {env: LIMPET_NO_SUCH}": `a.yaml:2:14: persistence: the environment variable "LIMPET_NO_SUCH" is not set, and there is no default`,
	} {
		dir := testfiles.Write(t, map[string]string{"a.yaml": "pools: [{name: web, servers: [{address: 10.0.0.1}]}]\n" + text + "\npersistenceProfiles: [{name: lb, clientIP: {}}]\n"})
		_, err := Load(t.Context(), dir+"/a.yaml")
		got := ""
		if err != nil {
			got = strings.TrimPrefix(err.Error(), dir+"/")
		}
		if got != want {
			t.Errorf("%s: %s, not %s", text, got, want)
		}
	}
}

// A reload that took the only key of a cookie away from its clients reported
// nothing, and neither did others that lose all clients of a profile.
func TestReloadOfProfiles(t *testing.T) {
	const (
		key1 = `{id: a, secret: MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI=}`
		key2 = `{id: a, secret: MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTM=}`
		key3 = `{id: b, secret: MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTM=}`
	)
	for _, c := range []struct {
		name, old, now string
		fresh          bool
	}{
		{"another key", "httpCookie: {keys: [" + key1 + "]}", "httpCookie: {keys: [" + key3 + "]}", true},
		{"another secret", "httpCookie: {keys: [" + key1 + "]}", "httpCookie: {keys: [" + key2 + "]}", true},
		{"one key stays", "httpCookie: {keys: [" + key1 + "]}", "httpCookie: {keys: [" + key3 + "," + key1 + "]}", false},
		{"first keys", "httpCookie: {timeout: 1h}", "httpCookie: {keys: [" + key1 + "]}", false},
		{"no more keys", "httpCookie: {keys: [" + key1 + "]}", "httpCookie: {}", true},
		{"name of a cookie", "httpCookie: {}", "httpCookie: {name: other}", true},
		{"the name that it has", "httpCookie: {}", "httpCookie: {name: LIMPET_COOKIE}", false},
		{"masks", "clientIP: {mask4: 24}", "clientIP: {mask4: 25}", true},
		{"the mask that it has", "clientIP: {}", "clientIP: {mask4: 32}", false},
		{"session", "appCookie: {name: a}", "appCookie: {name: b}", true},
		{"timeout", "appCookie: {name: a}", "appCookie: {name: a, timeout: 1h}", false},
		{"kind", "appCookie: {name: a}", "httpCookie: {}", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			for path, form := range map[string]string{"persistence": "persistence: {%s}", "persistenceProfiles[0]": "persistenceProfiles: [{name: p, %s}]\npersistence: p"} {
				load := func(profile string) *File {
					text := "pools: [{name: web, servers: [{address: 10.0.0.1}]}]\n" + fmt.Sprintf(form, profile)
					f, err := Parse(t.Context(), "text", []byte(text), nil)
					if err != nil {
						t.Fatal(err)
					}
					return f
				}
				rt, err := load(c.old).Build(Options{})
				if err != nil {
					t.Fatal(err)
				}
				changes, err := rt.Update(load(c.now))
				if err != nil || slices.Contains(changes.Fresh, path) != c.fresh {
					t.Errorf("%s: %+v, %v", path, changes, err)
				}
			}
		})
	}
}
