package config

import (
	"strings"
	"testing"
)

// Errors tell users of other proxies, and newcomers to YAML, what to write.
func TestHabits(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"weight", "pools: [{name: a, servers: [{address: 10.0.0.1, weight: 3}]}]", `pools[0].servers[0]: unknown field "weight"; did you mean "ratio"?`},
		{"upstreams", "upstreams: []", `unknown field "upstreams"; did you mean "pools"?`},
		{"maxconn", "pools: [{name: a, servers: [{address: 10.0.0.1, maxconn: 3}]}]", `; did you mean "maxConnections"?`},
		{"server without a mapping", "pools: [{name: a, servers: [10.0.0.1]}]", `pools[0].servers[0]: want a mapping, such as {address: 10.0.0.1}, not "10.0.0.1"`},
		{"pool without a list", "trustedProxies: 10.0.0.0/8", `trustedProxies: want a list, such as [10.0.0.0/8], not "10.0.0.0/8"`},
		{"duration without a unit", "pools: [{name: a, servers: [{address: 10.0.0.1}], slowStart: 5}]", `"5" has no unit: write 5s for seconds`},
		{"days", "tables: {maxLifetime: 2d}", `there is no unit of days: write 48h`},
		{"no duration", "tables: {maxLifetime: soon}", `"soon" is no duration, such as 300ms`},
		{"port", "listen: 8080", `"8080" is a port alone: write ":8080"`},
		{"URL of a server", "pools: [{name: a, servers: [{address: http://10.0.0.1}]}]", `write https as scheme of the pool, and the address without it`},
		{"tab", "pools:\n\t- name: a", "YAML is indented with spaces, and this line has a tab"},
		{"indentation", "pools:\n  - name: a\n   servers: []", "compare the indentation of this line with that of the lines above"},
		{"short secret", "persistence: {httpCookie: {keys: [{id: a, secret: aHVzaA==}]}}", "4 bytes, not 32; head -c 32 /dev/urandom | base64 makes a secret"},
		{"key of HAProxy in a scheme", "pools: [{name: a, scheme: ftp, servers: [{address: 10.0.0.1}]}]", "neither http nor https"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := Parse(t.Context(), "text", []byte(c.text), nil); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, not %s", err, c.want)
			}
		})
	}
	if _, err := Parse(t.Context(), "text", []byte("pools: [{name: a, scheme: HTTPS, servers: [{address: 10.0.0.1}]}]"), nil); err != nil {
		t.Errorf("a scheme in upper case: %v", err)
	}
}
