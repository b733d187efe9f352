package configkeys

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const schema = `{
 "$ref": "#/$defs/document",
 "$defs": {
  "document": {"type": ["object", "null"], "additionalProperties": false, "properties": {
   "name": {"$ref": "#/$defs/text", "description": "Name is shown. Nobody else has it.", "examples": ["shop"]},
   "pools": {"description": "Pools, such as 1.5 of them: servers.", "allOf": [{"type": ["array", "null"], "items": {"$ref": "#/$defs/pool"}}]},
   "backup": {"$ref": "#/$defs/pool"},
   "used": {"type": ["array", "null"], "items": {"$ref": "#/$defs/nameOr-pool"}},
   "listen": {"$ref": "#/$defs/addresses", "examples": [":80"]},
   "version": {"$ref": "#/$defs/version"},
   "inline": {"type": ["object", "null"], "properties": {"a": {"$ref": "#/$defs/truth"}}}
  }},
  "pool": {"type": ["object", "null"], "properties": {
   "interval": {"$ref": "#/$defs/duration", "default": "10s", "x-minimum": "1ms", "x-maximum": "1h"},
   "count": {"$ref": "#/$defs/integer", "default": 2, "x-reload": "restart", "x-since": "0.2.0", "anyOf": [{"const": 0}, {"minimum": 1, "maximum": 50}]},
   "share": {"$ref": "#/$defs/number", "minimum": 0, "maximum": 0.5},
   "size": {"$ref": "#/$defs/bytes"},
   "order": {"$ref": "#/$defs/order"},
   "orders": {"type": ["array", "null"], "items": {"$ref": "#/$defs/order"}},
   "action": {"$ref": "#/$defs/action"},
   "names": {"allOf": [{"type": ["object", "null"], "additionalProperties": {"type": ["array", "null"], "items": {"$ref": "#/$defs/text"}}}], "examples": [{"a b": ["yes", "1", "x: y"]}]}
  }},
  "nameOr-pool": {"anyOf": [{"type": ["string", "number"]}, {"$ref": "#/$defs/pool"}, {"type": "null"}, {"$ref": "#/$defs/elsewhere"}]},
  "addresses": {"anyOf": [{"$ref": "#/$defs/text"}, {"type": "array", "items": {"$ref": "#/$defs/text"}}]},
  "version": {"anyOf": [{"enum": ["1.2", 1.2, "1.3", 1.3]}, {"type": "null"}, {"$ref": "#/$defs/elsewhere"}]},
  "elsewhere": {"oneOf": [{"type": "object"}]},
  "order": {"anyOf": [{"enum": ["first in", "last in"]}, {"type": "string"}, {"type": "null"}]},
  "action": {"anyOf": [{"enum": ["close", "respond"]}, {"type": "object", "properties": {"close": {"type": ["object", "null"], "properties": {}}, "respond": {"$ref": "#/$defs/respond"}}}]},
  "respond": {"type": ["object", "null"], "properties": {"status": {"$ref": "#/$defs/upTo65535"}}},
  "text": {}, "duration": {}, "integer": {}, "number": {}, "bytes": {}, "truth": {}, "upTo65535": {}
 }
}`

func parse(t *testing.T) List {
	t.Helper()
	keys, err := Parse([]byte(schema))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func TestParse(t *testing.T) {
	want := List{
		{Paths: []string{"backup"}, Mapping: "document", Type: "mapping", Keys: []string{"action", "count", "interval", "names", "order", "orders", "share", "size"}, Example: `backup: {names: {a b: ["yes", "1", "x: y"]}}`},
		{Paths: []string{"backup.action", "pools.action", "used.action"}, Mapping: "pool", Type: "one of close, respond; or a mapping of one of them to its keys", Example: "backup: {action: close}"},
		{Paths: []string{"backup.action.close", "pools.action.close", "used.action.close"}, Mapping: "action", Type: "mapping", Example: "backup: {action: {close: {}}}"},
		{Paths: []string{"backup.action.respond", "pools.action.respond", "used.action.respond"}, Mapping: "action", Type: "mapping", Keys: []string{"status"}, Example: "backup: {action: {respond: {status: 8080}}}"},
		{Paths: []string{"backup.action.respond.status", "pools.action.respond.status", "used.action.respond.status"}, Mapping: "respond", Type: "whole number up to 65535", Example: "backup: {action: {respond: {status: 8080}}}"},
		{Paths: []string{"backup.count", "pools.count", "used.count"}, Mapping: "pool", Type: "whole number", Default: "2", Min: "1", Max: "50", Example: "backup: {count: 2}", Reload: "restart", Since: "0.2.0"},
		{Paths: []string{"backup.interval", "pools.interval", "used.interval"}, Mapping: "pool", Type: "duration", Unit: "ns, us, ms, s, m, h, as in 1m30s", Default: "10s", Min: "1ms", Max: "1h", Example: "backup: {interval: 10s}"},
		{Paths: []string{"backup.names", "pools.names", "used.names"}, Mapping: "pool", Type: "mapping of any names to lists of texts", Example: `backup: {names: {a b: ["yes", "1", "x: y"]}}`},
		{Paths: []string{"backup.order", "pools.order", "used.order"}, Mapping: "pool", Type: "one of first in, last in", Example: "backup: {order: first in}"},
		{Paths: []string{"backup.orders", "pools.orders", "used.orders"}, Mapping: "pool", Type: "list of one of first in, last in", Example: "backup: {orders: [first in]}"},
		{Paths: []string{"backup.share", "pools.share", "used.share"}, Mapping: "pool", Type: "number", Min: "0", Max: "0.5", Example: "backup: {share: 1}"},
		{Paths: []string{"backup.size", "pools.size", "used.size"}, Mapping: "pool", Type: "size", Unit: "bytes, or with KiB, MiB, GiB (1,024) or KB, MB, GB (1,000)", Example: "backup: {size: 64KiB}"},
		{Paths: []string{"inline"}, Mapping: "document", Type: "mapping", Keys: []string{"a"}, Example: "inline: {a: true}"},
		{Paths: []string{"inline.a"}, Mapping: "inline.", Type: "true or false", Example: "inline: {a: true}"},
		{Paths: []string{"listen"}, Mapping: "document", Type: "text, or list of texts", Example: `listen: ":80"`},
		{Paths: []string{"name"}, Mapping: "document", Type: "text", Text: "Name is shown.", Example: "name: shop"},
		{Paths: []string{"pools"}, Mapping: "document", Type: "list of mappings", Text: "Pools, such as 1.5 of them: servers.", Keys: []string{"action", "count", "interval", "names", "order", "orders", "share", "size"}, Example: `pools: [{names: {a b: ["yes", "1", "x: y"]}}]`},
		{Paths: []string{"used"}, Mapping: "document", Type: "list of texts, or mappings", Keys: []string{"action", "count", "interval", "names", "order", "orders", "share", "size"}, Example: `used: [{names: {a b: ["yes", "1", "x: y"]}}]`},
		{Paths: []string{"version"}, Mapping: "document", Type: "one of 1.2, 1.3", Example: `version: "1.2"`},
	}
	for _, k := range want {
		if k.Reload == "" {
			k.Reload = "live"
		}
	}
	if diff := cmp.Diff(want, parse(t)); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
}

func TestFind(t *testing.T) {
	keys := parse(t)
	for path, want := range map[string]string{
		"name":                            "name!",
		"status":                          "backup.action.respond.status",
		"pools[12].action.respond.status": "backup.action.respond.status!",
		`names["x.y"]`:                    "backup.names",
		"pools.interval":                  "backup.interval!",
		"ools.interval":                   "",
		"":                                "",
		".":                               "",
		"action":                          "backup.action",
	} {
		found, exact := keys.Find(path)
		var got []string
		for _, k := range found {
			got = append(got, k.Paths[0])
		}
		text := strings.Join(got, " ")
		if exact {
			text += "!"
		}
		if text != want {
			t.Errorf("%q: %q, not %q", path, text, want)
		}
	}
}

func TestEndings(t *testing.T) {
	keys := parse(t)
	if got := slices.Sorted(maps.Keys(keys.Endings(4))); !slices.Equal(got, []string{"backup.action.respond.status", "pools.action.respond.status", "used.action.respond.status"}) {
		t.Errorf("%q", got)
	}
	if got := keys.Endings(2); got["respond.status"] == nil || got["respond.status"].Name() != "status" || got["status"] != nil {
		t.Errorf("%v", got)
	}
}

func TestParseFaults(t *testing.T) {
	for _, c := range []struct{ schema, want string }{
		{"{", "unexpected end"},
		{`{"$ref": "#/$defs/a"}`, "there is no #/$defs/a"},
		{`{"properties": {"a": {"$ref": "#/$defs/b"}}}`, "a: there is no #/$defs/b"},
		{`{"properties": {"a": {"type": "odd"}}}`, "a: a value is of no known kind"},
		{`{"$ref": "#/$defs/a", "$defs": {"a": {"properties": {"b": {"$ref": "#/$defs/a"}}}}}`, "a contains itself"},
	} {
		if _, err := Parse([]byte(c.schema)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, not %s", c.schema, err, c.want)
		}
	}
}
