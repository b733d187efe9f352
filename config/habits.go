package config

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Errors help users of other proxies: they say what limpet calls a thing, and
// how it writes it.

// aliases are the keys of HAProxy, NGINX, Caddy and Traefik for those of a
// file, in lower case. A key can have several, of which the mapping at hand has
// one.
var aliases = map[string][]string{
	"weight": {"ratio"}, "backend": {"pools", "pool"}, "backends": {"pools"}, "upstream": {"pools", "pool"}, "upstreams": {"pools", "servers"},
	"frontend": {"listeners"}, "frontends": {"listeners"}, "entrypoints": {"listeners"}, "bind": {"listen", "address"}, "port": {"listen", "defaultPort", "address"},
	"nodes": {"servers"}, "members": {"servers"}, "targets": {"servers"}, "url": {"address"}, "host": {"address", "hosts"}, "ip": {"address"},
	"balance": {"algorithm"}, "lb_policy": {"algorithm"}, "healthcheck": {"healthMonitors"}, "healthchecks": {"healthMonitors"}, "health_check": {"healthMonitors"},
	"check": {"healthMonitors"}, "sticky": {"persistence"}, "cookie": {"persistence"}, "stick": {"persistence"}, "maxconn": {"maxConnections"},
	"max_conns": {"maxConnections"}, "down": {"disabled"}, "backup": {"failAction"}, "routes": {"httpRequest"}, "rules": {"httpRequest"},
	"middlewares": {"httpRequest"}, "acl": {"httpSecurity"}, "timeout": {"timeouts", "headerTimeout"}, "cert": {"certificate"}, "crt": {"certificate"},
	"certfile": {"certificate"}, "keyfile": {"key"}, "ssl": {"tls"}, "server_name": {"hosts"}, "servername": {"hosts"}, "domains": {"hosts"},
}

// called returns the one of names that other proxies call key; empty if none
// does.
func called(key string, names []string) string {
	for _, name := range aliases[strings.ToLower(key)] {
		if slices.Contains(names, name) {
			return name
		}
	}
	return ""
}

// wantMapping says what stands where a mapping should, and how to write it.
func wantMapping(n *yaml.Node, names []string, path, what string) error {
	switch {
	case !isPlain(n):
	case slices.Contains(names, "address") && slices.Contains(names, "ratio"):
		return fmt.Errorf("want a mapping, such as {address: %s}, not %s", n.Value, what)
	case slices.Contains(names, "name") && strings.HasSuffix(path, "]"):
		return fmt.Errorf("want a mapping, such as {name: %s}, not %s", n.Value, what)
	}
	return fmt.Errorf("want a mapping, not %s", what)
}

// isPlain reports whether a node is a text that an example can repeat.
func isPlain(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && plainText.MatchString(n.Value) }

var plainText = regexp.MustCompile(`^[0-9A-Za-z_.:/-]{1,48}$`)

// durationHint is the error of a text that is no duration.
func durationHint(text string) error {
	if _, bad := strconv.ParseFloat(text, 64); bad == nil {
		return fmt.Errorf("%s has no unit: write %ss for seconds, %sms for milliseconds or %sm for minutes", quoted(text), text, text, text)
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, bad := strconv.Atoi(days); bad == nil {
			return fmt.Errorf("%s: there is no unit of days: write %dh", quoted(text), 24*n)
		}
	}
	return fmt.Errorf("%s is no duration, such as 300ms, 5s, 1m30s or 24h", quoted(text))
}

// syntaxHint adds what to do to the message of the parser.
func syntaxHint(message, line string) string {
	indent := line[:len(line)-len(strings.TrimLeft(line, " \t"))]
	switch {
	case strings.Contains(indent, "\t") || strings.Contains(message, "cannot start any token") && strings.Contains(line, "\t"):
		return message + ": YAML is indented with spaces, and this line has a tab"
	case strings.Contains(message, "did not find expected key"), strings.Contains(message, "did not find expected '-' indicator"),
		strings.Contains(message, "mapping values are not allowed"):
		return message + ": compare the indentation of this line with that of the lines above"
	}
	return message
}
