package recipes

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/limpetlb/limpet/datascript"
)

// eventWords are how the document puts the events in which a function may be
// called, by what the source of package datascript says.
var eventWords = map[string]string{
	"":                               "any",
	"notFailed":                      "served",
	"requestEvents":                  "request",
	"failureEvents":                  "failed",
	"requestEvents | failureEvents":  "request, failed",
	"mutable":                        "headers",
	"rateEvents":                     "served but LB_DONE",
	"bodyEvents":                     "HTTP_REQ, HTTP_REQ_DATA, LB_DONE, HTTP_RESP, HTTP_RESP_DATA",
	"events(HTTPReq)":                "HTTP_REQ",
	"events(HTTPResp)":               "HTTP_RESP",
	"events(HTTPRespData)":           "HTTP_RESP_DATA",
	"events(HTTPResp, HTTPRespData)": "HTTP_RESP, HTTP_RESP_DATA",
}

// What scripts can reach is in the document, and what the document mentions
// can be reached.
func TestDocumentNamesAPI(t *testing.T) {
	api := readAPI(t)
	mentioned := map[string]bool{}
	name := regexp.MustCompile(`\b(?:avi|string|table|math|os)(?:\.[A-Za-z]\w*)+`)
	for _, file := range []string{reference, guide, "../../docs/concepts.md"} {
		for _, s := range name.FindAllString(read(t, file), -1) {
			mentioned[s] = mentioned[s] || file == reference
			if !api.has(s) && s != "avi.vs.reqvar.x" {
				t.Errorf("%s mentions %s, which does not exist", file, s)
			}
		}
	}
	for s := range api {
		if !mentioned[s] {
			t.Errorf("the reference does not mention %s", s)
		}
	}
}

// Each function has a row in a table of the reference, with its events.
func TestDocumentNamesEvents(t *testing.T) {
	api, text := readAPI(t), read(t, reference)
	row := regexp.MustCompile("(?m)^\\| `(avi[\\w.]+)\\([^`]*\\)` \\| ([^|]+) \\|")
	documented := map[string]string{}
	for _, m := range row.FindAllStringSubmatch(text, -1) {
		if documented[m[1]] != "" {
			t.Errorf("%s has two rows", m[1])
		}
		documented[m[1]] = m[2]
	}
	for name, s := range api {
		if !s.function || !strings.HasPrefix(name, "avi.") || strings.HasPrefix(name, "avi.http.ipgroup.") || strings.HasPrefix(name, "avi.http.stringgroup.") {
			continue
		}
		want, ok := eventWords[s.events]
		if !ok {
			t.Errorf("%s: no word for the events %q", name, s.events)
		}
		if got := documented[name]; got != want {
			t.Errorf("%s: events %q in the document, want %q", name, got, want)
		}
		delete(documented, name)
	}
	for name := range documented {
		t.Errorf("the document has a row for %s, which is no function", name)
	}
}

// The table of events has all of them, in their order, and their aliases.
func TestDocumentNamesAllEvents(t *testing.T) {
	row := regexp.MustCompile("(?m)^\\| `(\\w+)` \\| ([`\\w, ]*)\\| .* \\| \\w* ?\\|$")
	next := datascript.HTTPAuth
	for _, m := range row.FindAllStringSubmatch(read(t, reference), -1) {
		if m[1] != next.String() {
			t.Errorf("event %s in the document, want %v", m[1], next)
		}
		for alias := range strings.SplitSeq(m[2], ",") {
			if alias = strings.Trim(alias, "` "); alias == "" {
				continue
			}
			if e, err := datascript.ParseEvent(alias); err != nil || e != next {
				t.Errorf("alias %q of %v: event %v, error %v", alias, next, e, err)
			}
		}
		next++
	}
	if last := datascript.HTTPRespData; next != last+1 {
		t.Errorf("the document ends before %v; want all up to %v", next, last)
	}
}

// An apiName is a name that scripts can reach.
type apiName struct {
	function bool   // and supported
	events   string // the expression in the source
}

type apiNames map[string]apiName

// has reports whether a name, or a table of that name, is there.
func (api apiNames) has(name string) bool {
	if _, ok := api[name]; ok {
		return true
	}
	for s := range api {
		if strings.HasPrefix(s, name+".") {
			return true
		}
	}
	return false
}

// readAPI reads the names from the source of package datascript: from its
// lists of entries, and the calls of declare that say where they belong.
// Lua's base library, which has no table, is left out.
func readAPI(t *testing.T) apiNames {
	t.Helper()
	var files []string
	for _, pattern := range []string{"../../datascript/*.go", "../../internal/lua51/*.go"} { // the API, and the language
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	lists, modules, api := map[string]*ast.CompositeLit{}, map[string][]string{}, apiNames{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ValueSpec:
				if len(n.Values) == 1 {
					if list, ok := n.Values[0].(*ast.CompositeLit); ok {
						lists[n.Names[0].Name] = list
					}
				}
			case *ast.CallExpr:
				if fn := types.ExprString(n.Fun); fn == "declare" || fn == "lib.Declare" {
					if list, ok := n.Args[1].(*ast.Ident); ok {
						module, _ := literal(n.Args[0])
						modules[list.Name] = append(modules[list.Name], module)
					}
				}
			}
			return true
		})
	}
	for list, names := range modules {
		for _, module := range names {
			if module == "" {
				continue
			}
			for _, e := range lists[list].Elts {
				name, s := entryOf(e)
				if name == "" {
					t.Fatalf("%s: an entry without a name", list)
				}
				api[module+"."+name] = s
			}
		}
	}
	for _, e := range lists["unsupportedNames"].Elts {
		name, _ := literal(e)
		api[name] = apiName{}
	}
	if len(api) == 0 {
		t.Fatal("no names found")
	}
	return api
}

// entryOf reads an entry of a list: a literal with fields, or a call whose
// first argument is the name.
func entryOf(e ast.Expr) (name string, s apiName) {
	switch e := e.(type) {
	case *ast.CallExpr:
		name, _ = literal(e.Args[0])
	case *ast.CompositeLit:
		for _, field := range e.Elts {
			kv := field.(*ast.KeyValueExpr)
			switch strings.ToLower(types.ExprString(kv.Key)) {
			case "name":
				name, _ = literal(kv.Value)
			case "call":
				s.function = true
			case "events":
				s.events = types.ExprString(kv.Value)
			}
		}
	}
	return name, s
}

func literal(e ast.Expr) (string, bool) {
	l, ok := e.(*ast.BasicLit)
	if !ok {
		return "", false
	}
	s, err := strconv.Unquote(l.Value)
	return s, err == nil
}
