package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/testwait"
)

// schemas are the shapes of the document.
var schemas = map[string]any{
	"Change": changeView{}, "Cleared": clearedView{}, "Config": configView{}, "ConnectionCaps": connectionCapsView{}, "Connections": connectionsView{},
	"Count": countView{}, "Counts": countsView{}, "Deleted": deletedView{}, "Drain": drainView{}, "DrainEvent": drainEvent{}, "DrainedEvent": drainedEvent{},
	"Dropped": droppedView{}, "Edit": editView{}, "Entry": entryView{}, "EntryDelete": entryDelete{}, "EntryPut": entryPut{}, "EntryQuery": entryQuery{},
	"Fault": fault{}, "Group": groupView{}, "GroupMatch": groupMatch{}, "GroupPatch": groupPatch{}, "GroupRevert": groupRevert{}, "GroupTest": groupTest{},
	"GroupTestResult": groupTestResult{}, "Header": headerView{}, "Health": healthView{}, "HealthInput": healthInputView{}, "HealthPart": healthPart{},
	"LastDrain": lastDrainView{}, "Limiter": limiterView{}, "Listener": listenerView{}, "Load": loadView{}, "Metric": metricView{}, "Monitor": monitorView{},
	"Override": overrideView{}, "Persistence": persistenceView{}, "Pool": poolView{}, "PoolConfig": poolConfig{}, "Problem": problem{}, "Queue": queueView{},
	"Ready": readyView{}, "ExplainRequest": explainRequest{},
	"Explanation": limpet.Explanation{}, "ExplainedRun": limpet.ExplainedRun{}, "ExplainedMessage": limpet.ExplainedMessage{}, "Remote": remoteView{}, "Node": nodeView{}, "RedisEvent": redisEvent{}, "Record": recordView{}, "Reload": reloadView{}, "Rule": ruleView{}, "RuleConfig": ruleConfig{}, "Script": scriptView{},
	"ScriptError": scriptErrorView{}, "ScriptLimits": scriptLimitsView{}, "Scripts": scriptsView{}, "Server": serverView{}, "ServerConfig": serverConfig{},
	"ServerCount": serverCount{}, "ServerPatch": serverPatch{}, "Service": serviceView{}, "ServiceConfig": serviceConfig{}, "ServiceStatus": serviceStatus{},
	"StateCount": stateCount{}, "StateEvent": stateEvent{}, "Status": statusView{}, "Stored": storedView{}, "Table": tableView{}, "TableCaps": tableCaps{},
	"TableCount": tableCount{}, "Times": timesView{}, "Traffic": trafficView{},
}

// A schema is a part of the document.
type schema struct {
	Ref         string            `json:"$ref"`
	Type        string            `json:"type"`
	Nullable    bool              `json:"nullable"`
	Description string            `json:"description"`
	Properties  map[string]schema `json:"properties"`
	Required    []string          `json:"required"`
	Items       *schema           `json:"items"`
	AllOf       []schema          `json:"allOf"`
	Enum        []string          `json:"enum"`
	Additional  any               `json:"additionalProperties"`
}

// A document is openapi.json, as far as the tests need it.
type document struct {
	Paths map[string]map[string]struct {
		Description string `json:"description"`
		Parameters  []struct {
			Name, In string
		} `json:"parameters"`
		Responses map[string]struct {
			Content map[string]struct{ Schema schema } `json:"content"`
		} `json:"responses"`
	} `json:"paths"`
	Components struct{ Schemas map[string]schema } `json:"components"`
}

func readDocument(t testing.TB) (d document) {
	t.Helper()
	must(t, json.Unmarshal(openAPI, &d))
	return d
}

// TestDocument: the document has the routes of the table with their roles and
// parameters, and the fields of the types.
func TestDocument(t *testing.T) {
	d := readDocument(t)
	documented := map[string]bool{}
	for path, ops := range d.Paths {
		for method := range ops {
			documented[strings.ToUpper(method)+" "+path] = true
		}
	}
	for _, rt := range routes {
		name := rt.method + " " + rt.pattern
		op, ok := d.Paths[rt.pattern][strings.ToLower(rt.method)]
		if delete(documented, name); !ok {
			t.Errorf("%s is not in the document", name)
			continue
		}
		if !strings.Contains(op.Description, "Role: "+rt.role.String()) {
			t.Errorf("%s: %q does not name the role %s", name, op.Description, rt.role)
		}
		var query []string
		for _, p := range op.Parameters {
			if p.In == "query" {
				query = append(query, p.Name)
			}
		}
		if !slices.Equal(query, rt.query) {
			t.Errorf("%s: parameters %q, not %q", name, query, rt.query)
		}
	}
	for name := range documented {
		t.Errorf("%s is no route", name)
	}
	for name, s := range d.Components.Schemas {
		of, ok := schemas[name]
		if !ok {
			t.Errorf("no type for the schema %s", name)
			continue
		}
		if got, want := slices.Sorted(maps.Keys(s.Properties)), slices.Sorted(maps.Keys(fieldsOf(reflect.TypeOf(of)))); !slices.Equal(got, want) {
			t.Errorf("%s has the fields\n%q, not\n%q", name, got, want)
		}
	}
	for name := range schemas {
		if _, ok := d.Components.Schemas[name]; !ok {
			t.Errorf("no schema for the type %s", name)
		}
	}
	if got := d.Components.Schemas["Problem"].Properties["code"].Enum; !slices.Contains(got, codeUnbounded) {
		t.Errorf("codes %q", got)
	}
}

// fieldsOf returns the names of a struct in JSON.
func fieldsOf(of reflect.Type) map[string]bool {
	names := map[string]bool{}
	for f := range of.Fields() {
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous:
			maps.Copy(names, fieldsOf(f.Type))
		case tag != "" && tag != "-":
			names[tag] = true
		}
	}
	return names
}

// conform compares a value with its schema.
func (d document) conform(s schema, v any, path string) error {
	if s.Ref != "" {
		s = d.Components.Schemas[strings.TrimPrefix(s.Ref, "#/components/schemas/")]
	}
	if len(s.AllOf) == 1 {
		if v == nil && s.Nullable {
			return nil
		}
		return d.conform(s.AllOf[0], v, path)
	}
	ok := true
	switch v := v.(type) {
	case nil:
		ok = s.Nullable
	case string:
		ok = s.Type == "string" && (len(s.Enum) == 0 || slices.Contains(s.Enum, v))
	case bool:
		ok = s.Type == "boolean"
	case float64:
		ok = s.Type == "number" || s.Type == "integer" && v == float64(int64(v))
	case []any:
		if ok = s.Type == "array"; ok {
			for i, item := range v {
				if err := d.conform(*s.Items, item, fmt.Sprintf("%s[%d]", path, i)); err != nil {
					return err
				}
			}
		}
	case map[string]any:
		if ok = s.Type == "object"; ok && s.Properties != nil {
			return d.conformObject(s, v, path)
		}
	}
	if !ok {
		return fmt.Errorf("%s: %v is no %s", path, v, s.Type)
	}
	return nil
}

func (d document) conformObject(s schema, v map[string]any, path string) error {
	for _, name := range s.Required {
		if _, ok := v[name]; !ok {
			return fmt.Errorf("%s: %s is missing", path, name)
		}
	}
	for name, value := range v {
		property, ok := s.Properties[name]
		if !ok {
			return fmt.Errorf("%s: %s is not documented", path, name)
		}
		if err := d.conform(property, value, path+"."+name); err != nil {
			return err
		}
	}
	return nil
}

// requests are the requests of TestRoutes, in order; each route has one. {addr}
// is the address of web-2, {id} of an override.
var requests = []struct {
	route, path, body string
	status            int
}{
	{"GET /healthz", "/healthz", "", 200},
	{"GET /readyz", "/readyz?vs=shop", "", 200},
	{"GET /readyz", "/readyz?vs=none", "", 404},
	{"GET /metrics", "/metrics", "", 200},
	{"GET /debug/", "/debug/pprof/heap?seconds=3", "", 200},
	{"GET /debug/", "/debug/pprof/heap?seconds=61", "", 400},
	{"GET /v1/openapi.json", "/v1/openapi.json", "", 200},
	{"GET /v1/status", "/v1/status", "", 200},
	{"GET /v1/status", "/v1/status?x=1", "", 400},
	{"GET /v1/config", "/v1/config", "", 200},
	{"GET /v1/config/source", "/v1/config/source", "", 200},
	{"POST /v1/config/reload", "/v1/config/reload", "", 200},
	{"GET /v1/services", "/v1/services", "", 200},
	{"GET /v1/services/{vs}", "/v1/services/shop", "", 200},
	{"GET /v1/services/{vs}", "/v1/services/none", "", 404},
	{"GET /v1/services/{vs}/health", shop + "/health", "", 200},
	{"GET /v1/services/{vs}/pools", shop + "/pools", "", 200},
	{"GET /v1/services/{vs}/pools/{pool}", shop + "/pools/web", "", 200},
	{"GET /v1/services/{vs}/pools/{pool}", shop + "/pools/none", "", 404},
	{"PATCH /v1/services/{vs}/pools/{pool}/servers/{server}", shop + "/pools/web/servers/web-2", `{"ratio":7}`, 200},
	{"PATCH /v1/services/{vs}/pools/{pool}/servers/{server}", shop + "/pools/web/servers/{addr}", `{"state":"disabled"}`, 200},
	{"PATCH /v1/services/{vs}/pools/{pool}/servers/{server}", shop + "/pools/web/servers/web-2", `{"state":"draining"}`, 409},
	{"PATCH /v1/services/{vs}/pools/{pool}/servers/{server}", shop + "/pools/web/servers/web-2", `{"state":"off"}`, 400},
	{"PATCH /v1/services/{vs}/pools/{pool}/servers/{server}", shop + "/pools/web/servers/web-2", `{"ratio":21}`, 400},
	{"PATCH /v1/services/{vs}/pools/{pool}/servers/{server}", shop + "/pools/web/servers/web-2", `{"ratios":2}`, 400},
	{"PATCH /v1/services/{vs}/pools/{pool}/servers/{server}", shop + "/pools/web/servers/none", `{"ratio":2}`, 404},
	{"GET /v1/services/{vs}/pools/{pool}/servers/{server}", shop + "/pools/web/servers/web-2", "", 200},
	{"GET /v1/overrides", "/v1/overrides", "", 200},
	{"DELETE /v1/overrides/{id}", "/v1/overrides/none", "", 404},
	{"DELETE /v1/overrides/{id}", "/v1/overrides/{id}", "", 200},
	{"DELETE /v1/overrides", "/v1/overrides", "", 200},
	{"PUT /v1/services/{vs}/entries", shop + "/entries", `{"key":"k1","value":"{addr}","lifetime_seconds":300}`, 200},
	{"PUT /v1/services/{vs}/entries", shop + "/entries", `{"key":"k1","value":"web-1","lifetime_seconds":300}`, 409},
	{"PUT /v1/services/{vs}/entries", shop + "/entries", `{"key":"k1","value":"web-2","lifetime_seconds":300,"replace":true}`, 200},
	{"PUT /v1/services/{vs}/entries", shop + "/entries", `{"key":"k2","value":"other","lifetime_seconds":1e300}`, 200},
	{"PUT /v1/services/{vs}/entries", shop + "/entries", `{"key":"k3","value":"other","lifetime_seconds":0}`, 400},
	{"GET /v1/services/{vs}/tables", shop + "/tables", "", 200},
	{"GET /v1/services/{vs}/tables/counts", shop + "/tables/counts", "", 200},
	{"GET /v1/services/{vs}/tables/counts", shop + "/tables/counts?table=none", "", 404},
	{"POST /v1/services/{vs}/entries/query", shop + "/entries/query", `{}`, 200},
	{"POST /v1/services/{vs}/entries/query", shop + "/entries/query", `{"key":"k1"}`, 200},
	{"POST /v1/services/{vs}/entries/query", shop + "/entries/query", `{"prefix":"k","limit":1}`, 200},
	{"POST /v1/services/{vs}/entries/query", shop + "/entries/query", `{"server":"web-2","reveal":true}`, 200},
	{"POST /v1/services/{vs}/entries/query", shop + "/entries/query", `{"value":"other"}`, 200},
	{"POST /v1/services/{vs}/entries/query", shop + "/entries/query", `{"value":"other","key":"x"}`, 400},
	{"POST /v1/services/{vs}/entries/query", shop + "/entries/query", `{"cursor":"0.9999.1"}`, 400},
	{"POST /v1/services/{vs}/entries/query", shop + "/entries/query", `{"table":"none"}`, 404},
	{"POST /v1/services/{vs}/entries/delete", shop + "/entries/delete", `{"key":"none"}`, 404},
	{"POST /v1/services/{vs}/entries/delete", shop + "/entries/delete", `{"key":"k2"}`, 200},
	{"POST /v1/services/{vs}/entries/delete", shop + "/entries/delete", `{"server":"web-2"}`, 400},
	{"POST /v1/services/{vs}/entries/delete", shop + "/entries/delete", `{"server":"web-2","all":true}`, 200},
	{"GET /v1/services/{vs}/groups", shop + "/groups", "", 200},
	{"PATCH /v1/services/{vs}/groups/{group}", shop + "/groups/office", `{"add":["198.51.100.7"],"remove":["192.0.2.1"],"for_seconds":3600}`, 200},
	{"PATCH /v1/services/{vs}/groups/{group}", shop + "/groups/office", `{"add":["nonsense"]}`, 422},
	{"PATCH /v1/services/{vs}/groups/{group}", shop + "/groups/words", `{"add":["192.0.2.1"]}`, 404},
	{"GET /v1/services/{vs}/groups/{group}", shop + "/groups/office", "", 200},
	{"GET /v1/services/{vs}/groups/{group}", shop + "/groups/words", "", 200},
	{"POST /v1/services/{vs}/groups/test", shop + "/groups/test", `{"address":"192.0.2.1"}`, 200},
	{"POST /v1/services/{vs}/groups/test", shop + "/groups/test", `{"address":"x"}`, 400},
	{"DELETE /v1/services/{vs}/groups/{group}/edits", shop + "/groups/office/edits", `{"entries":["198.51.100.7"]}`, 200},
	{"DELETE /v1/services/{vs}/groups/{group}/edits", shop + "/groups/office/edits", "", 200},
	{"GET /v1/services/{vs}/rules", shop + "/rules", "", 200},
	{"GET /v1/services/{vs}/limiters", shop + "/limiters", "", 200},
	{"GET /v1/services/{vs}/scripts", shop + "/scripts", "", 200},
	{"GET /v1/services/{vs}/scripts/errors", shop + "/scripts/errors", "", 200},
	{"GET /v1/services/{vs}/records", shop + "/records", "", 200},
	{"GET /v1/services/{vs}/records", shop + "/records?limit=1", "", 200},
	{"GET /v1/services/{vs}/records", shop + "/records?limit=0", "", 400},
	{"POST /v1/services/{vs}/explain", shop + "/explain", `{"url":"http://shop.example/denied"}`, 200},
	{"POST /v1/services/{vs}/explain", shop + "/explain", `{"url":"https://shop.example/","scripts":true,"method":"POST","client":"198.51.100.1","headers":[{"name":"X-Client","value":"k9"}],"body":"x"}`, 200},
	{"POST /v1/services/{vs}/explain", shop + "/explain", `{"url":"shop"}`, 400},
	{"POST /v1/services/{vs}/explain", shop + "/explain", `{"url":"http://x/","client":"x"}`, 400},
	{"POST /v1/services/{vs}/explain", shop + "/explain", `{"url":"http://x/","local":"x"}`, 400},
	{"GET /v1/audit", "/v1/audit", "", 200},
}

// TestRoutes: each route answers as documented, at the Unix socket and over
// TCP.
func TestRoutes(t *testing.T) {
	text := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "text") })
	b := newBench(t, setup{admin: func(c *Config) {
		c.Metrics, c.Debug = text, text
		c.Reload = func(context.Context) ([]string, error) { return []string{"old"}, nil }
		c.Source = func() ([]byte, error) { return []byte("text"), nil }
	}})
	b.visit("/")
	b.visit("/denied")
	b.visit("/", header("X-Fail", "1"))
	testwait.Until(t, "records", func() bool {
		var page list[recordView]
		b.do("GET", shop+"/records", "").get(t, &page)
		return len(page.Items) >= 2
	})
	d := readDocument(t)
	for name, ask := range map[string]func(method, path, body string) answer{
		"unix": func(method, path, body string) answer { return b.do(method, path, body) },
		"tcp":  func(method, path, body string) answer { return b.as(Reveal, method, path, body) },
	} {
		t.Run(name, func(t *testing.T) {
			asked := map[string]bool{}
			for _, rq := range requests {
				asked[rq.route] = true
				method, _, _ := strings.Cut(rq.route, " ")
				fill := strings.NewReplacer("{addr}", b.addr(1).String(), "{id}", firstOverride(b.adm))
				a := ask(method, fill.Replace(rq.path), fill.Replace(rq.body))
				if a.status != rq.status {
					t.Errorf("%s %s %s: %d %s", method, rq.path, rq.body, a.status, a.body)
				}
				if err := d.answered(rq.route, a); err != nil {
					t.Errorf("%s %s %s: %v: %s", method, rq.path, rq.body, err, a.body)
				}
			}
			for _, rt := range routes {
				if name := rt.method + " " + rt.pattern; !asked[name] && !streams[rt.pattern] {
					t.Errorf("nobody asks for %s", name)
				}
			}
		})
	}
}

// streams have tests of their own.
var streams = map[string]bool{"/v1/live": true, "/v1/events": true, service + "/logs": true}

func firstOverride(a *Admin) string {
	if all := a.kept().Overrides; len(all) > 0 {
		return all[0].ID
	}
	return "none"
}

// answered compares an answer with what is documented for its route.
func (d document) answered(name string, a answer) error {
	method, path, _ := strings.Cut(name, " ")
	op := d.Paths[path][strings.ToLower(method)]
	kind := strings.TrimSuffix(a.header.Get("Content-Type"), "; charset=utf-8")
	s := schema{Ref: "#/components/schemas/Problem"}
	if a.status == 200 {
		c, ok := op.Responses["200"].Content[kind]
		if !ok {
			return fmt.Errorf("%s is not documented", kind)
		}
		s = c.Schema
	} else if kind != "application/problem+json" {
		return fmt.Errorf("%s for a problem", kind)
	}
	if kind == "text/plain" {
		return nil
	}
	var v any
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		return err
	}
	return d.conform(s, v, name)
}
