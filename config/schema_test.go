package config

import (
	"bytes"
	"encoding"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/doc/comment"
	"go/parser"
	"go/token"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/fielderr"
)

var update = flag.Bool("update", false, "write limpet.schema.json and docs/reference/keys.md")

// The schema is what the decoder reads: it is made by the same walk over the
// types.
func TestSchema(t *testing.T) {
	t.Parallel()
	want := madeSchema(t)
	if *update {
		if err := os.WriteFile("limpet.schema.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(want), string(Schema())); diff != "" {
		t.Errorf("limpet.schema.json is not what the decoder reads; run go generate ./config (-decoder +schema):\n%s", diff)
	}
}

// madeSchema returns what the decoder and the comments of the types make. It is
// made once, since the sources of many packages are read for it.
func madeSchema(t *testing.T) []byte {
	t.Helper()
	schemaOnce.Do(func() { schemaText = makeSchema(t) })
	if schemaText == nil {
		t.Fatal("the schema could not be made")
	}
	return schemaText
}

var (
	schemaOnce sync.Once
	schemaText []byte
)

func makeSchema(t *testing.T) []byte {
	t.Helper()
	made := (&schemaMaker{comments: fieldComments(t), examples: fieldExamples(t), defs: object{}}).schema()
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(made); err != nil {
		t.Fatal(err)
	}
	return text.Bytes()
}

// object is one of JSON.
type object map[string]any

// A schemaMaker makes a schema of types.
type schemaMaker struct {
	comments map[string]string // of types and fields, by package, type and name
	examples map[string]any    // of fields, by mapping and key
	defs     object
}

func ref(name string) object { return object{"$ref": "#/$defs/" + name} }

// schema describes a whole document. A null is as good as nothing everywhere.
func (m *schemaMaker) schema() object {
	root := m.of(reflect.TypeFor[document](), false)
	m.define("elsewhere", object{
		"description": "A value from an environment variable or from a file.",
		"oneOf": []any{
			object{
				"type": "object", "required": []string{"env"}, "additionalProperties": false,
				"properties": object{"env": object{"type": "string"}, "default": object{"type": scalars}},
			},
			object{
				"type": "object", "required": []string{"file"}, "additionalProperties": false,
				"properties": object{"file": object{"type": "string"}},
			},
		},
	})
	return object{
		"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A configuration of limpet", "x-since": firstVersion, "$ref": root["$ref"], "$defs": m.defs,
	}
}

// scalars are the types of JSON that a text can have in YAML.
var scalars = []string{"string", "number", "boolean", "null"}

func (m *schemaMaker) define(name string, s object) object {
	m.defs[name] = s
	return ref(name)
}

// scalar describes one that may come from elsewhere.
func (m *schemaMaker) scalar(name string, forms ...object) object {
	if _, ok := m.defs[name]; ok {
		return ref(name)
	}
	var all []any
	for _, f := range append(forms, object{"type": "null"}, ref("elsewhere")) {
		all = append(all, f)
	}
	return m.define(name, object{"anyOf": all})
}

func pattern(format string, args ...any) object {
	return object{"type": "string", "pattern": "^(" + fmt.Sprintf(format, args...) + ")$"}
}

// of describes values of a type. ofBytes says whether they are numbers of
// bytes.
func (m *schemaMaker) of(t reflect.Type, ofBytes bool) object {
	integer, digits := object{"type": "integer"}, `[+-]?[0-9_]+`
	switch reflect.New(t).Interface().(type) {
	case *pairs:
		return object{"type": []string{"object", "null"}, "additionalProperties": m.of(reflect.TypeFor[string](), false)}
	case *addresses:
		text := m.of(reflect.TypeFor[string](), false)
		return m.define("addresses", object{"anyOf": []any{text, object{"type": "array", "items": text, "minItems": 1}}})
	case *time.Duration:
		return m.scalar("duration", object{"const": 0}, pattern(`[+-]?(0|(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)`))
	case *[]byte:
		return m.of(reflect.TypeFor[string](), false)
	case *secret:
		return m.scalar("base64", pattern(`[A-Za-z0-9+/\r\n]*=*[\r\n]*`))
	case *http.SameSite:
		return m.constant("sameSite", []string{"default", "lax", "none", "strict"})
	case *tlsVersion:
		return m.scalar("tlsVersion", object{"enum": []any{"1.2", 1.2, "1.3", 1.3}}) // a number, unless it is quoted
	case *netip.Addr:
		return m.scalar("address", pattern(`[0-9A-Fa-f:.]*(%%.+)?`))
	case *netip.AddrPort:
		return m.scalar("addressAndPort", pattern(`(\[?[0-9A-Fa-f:.]+(%%.+)?\]?:[0-9]+)?`))
	case *netip.Prefix:
		return m.scalar("network", pattern(`([0-9A-Fa-f:.]+/[0-9]+)?`))
	case *profileChoice:
		return m.scalar("profileChoice", object{"type": "string"}, m.of(reflect.TypeFor[sessionProfile](), false))
	case *datascript.Event:
		return m.scalar("event", object{"type": "string", "examples": words(t)})
	}
	if c, ok := reflect.TypeAssert[choice](reflect.New(t)); ok {
		_, own := c.parts()
		private := reflect.TypeOf(own()).Elem()
		return m.scalar("nameOr-"+typeName(private), object{"type": scalars[:3]}, m.of(private, false))
	}
	if types := unions[t]; types != nil {
		return m.union(t, types)
	}
	if all := words(t); all != nil {
		for _, alias := range []string{"deny", "drop"} {
			if p, ok := reflect.TypeAssert[encoding.TextUnmarshaler](reflect.New(t)); ok && p.UnmarshalText([]byte(alias)) == nil {
				all = append(all, alias)
			}
		}
		return m.constant(typeName(t), all)
	}
	if t.Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		panic(fmt.Sprintf("there is no schema for %v", t))
	}
	switch t.Kind() {
	case reflect.Struct:
		return m.structs(t)
	case reflect.Pointer:
		return m.of(t.Elem(), ofBytes)
	case reflect.Slice:
		return object{"type": []string{"array", "null"}, "items": m.of(t.Elem(), false)}
	case reflect.Map:
		return object{"type": []string{"object", "null"}, "additionalProperties": m.of(t.Elem(), false)}
	case reflect.String:
		return m.scalar("text", object{"type": scalars[:3]})
	case reflect.Bool:
		return m.scalar("truth", object{"type": "boolean"})
	case reflect.Float64:
		return m.scalar("number", object{"type": "number"}, pattern(`[+-]?[0-9_.]+([eE][+-]?[0-9]+)?`))
	case reflect.Uint16:
		return m.scalar("upTo65535", object{"type": "integer", "minimum": 0, "maximum": 65535}, pattern(`[0-9_]+`))
	case reflect.Int, reflect.Int64:
		if ofBytes {
			return m.scalar("bytes", integer, pattern(`%s|[0-9_]+ *(KiB|MiB|GiB|KB|MB|GB)`, digits))
		}
		return m.scalar("integer", integer, pattern(`%s`, digits))
	}
	panic(fmt.Sprintf("there is no schema for %v", t))
}

// separators do not matter in a constant.
const separators = `[\s_./-]*`

// constant describes one of these words, however it is written.
func (m *schemaMaker) constant(name string, words []string) object {
	var patterns []string
	for _, word := range words {
		p := separators
		for _, c := range regexp.MustCompile(separators).ReplaceAllString(strings.ToLower(word), "") {
			if upper := strings.ToUpper(string(c)); upper != string(c) {
				p += "[" + string(c) + upper + "]"
			} else {
				p += string(c)
			}
			p += separators
		}
		patterns = append(patterns, p)
	}
	return m.scalar(name, object{"enum": words}, pattern("%s", strings.Join(patterns, "|")))
}

// union describes one of these types: its name, or a mapping with its name.
func (m *schemaMaker) union(t reflect.Type, types []reflect.Type) object {
	name := typeName(t)
	if _, ok := m.defs[name]; ok {
		return ref(name)
	}
	names, properties := typeNames(types), object{}
	for i, member := range types {
		property := maps.Clone(m.of(member, false))
		if text := m.typeComment(member); text != "" {
			property["description"] = text
		}
		if example, ok := m.examples[name+"."+names[i]]; ok {
			property["examples"] = []any{example}
		}
		properties[names[i]] = property
	}
	return m.scalar(name, object{"enum": names}, object{
		"type": "object", "properties": properties, "additionalProperties": false, "minProperties": 1, "maxProperties": 1,
	})
}

// structs describes a mapping.
func (m *schemaMaker) structs(t reflect.Type) object {
	name := typeName(t)
	if t.Name() != "" {
		if _, ok := m.defs[name]; ok {
			return ref(name)
		}
		m.defs[name] = object{} // being made
	}
	properties := object{}
	for _, f := range fieldsOf(t).list {
		field := maps.Clone(m.of(f.Type, numberOfBytes(f)))
		if text := m.comment(t, f); text != "" {
			field = object{"description": text, "allOf": []any{field}}
			if inner, ok := field["allOf"].([]any)[0].(object); ok && inner["$ref"] != nil {
				field = object{"description": text, "$ref": inner["$ref"]}
			}
		}
		maps.Copy(field, limits(f, noZero[ownerOf(t, f)][f.Name] == ""))
		if text, ok := f.Tag.Lookup("implied"); ok {
			field["default"] = implied(f.Type, text)
		}
		if effect := reloadOf(t, f); effect != reloadLive {
			field["x-reload"] = effect
		}
		if since, ok := f.Tag.Lookup("since"); ok {
			field["x-since"] = since
		}
		if example, ok := m.examples[name+"."+fielderr.Name(f.Name)]; ok {
			field["examples"] = []any{example}
		}
		properties[fielderr.Name(f.Name)] = field
	}
	s := object{"type": []string{"object", "null"}, "properties": properties, "additionalProperties": false}
	if t.Name() == "" {
		return s
	}
	return m.define(name, s)
}

// implied is the default of a field that a tag of its own shows, because zero
// does not stand for it or has no text.
func implied(t reflect.Type, text string) any {
	if n, err := strconv.ParseFloat(text, 64); err == nil && t.Kind() == reflect.Pointer {
		return n
	}
	return text
}

// limits are the default and the bounds that the tags of a field have. Those of
// durations are in texts, which a schema cannot compare: keywords of our own
// have their bounds. zero says whether 0 may stand for the default.
func limits(f reflect.StructField, zero bool) object {
	made := object{}
	if f.Type == reflect.TypeFor[time.Duration]() {
		for tag, key := range map[string]string{"default": "default", "min": "x-minimum", "max": "x-maximum"} {
			if text, ok := f.Tag.Lookup(tag); ok {
				made[key] = text
			}
		}
		return made
	}
	number := func(tag string) (value any, ok bool) {
		text, ok := f.Tag.Lookup(tag)
		if !ok {
			return text, false
		}
		text = strings.ReplaceAll(text, "_", "")
		digits, factor := text, int64(1)
		for unit, size := range byteUnits {
			if cut, ok := strings.CutSuffix(text, unit); ok {
				digits, factor = cut, size
			}
		}
		if n, err := strconv.ParseInt(digits, 10, 64); err == nil {
			return n * factor, true
		}
		n, err := strconv.ParseFloat(text, 64)
		if err != nil {
			panic(fmt.Sprintf("%s: %v", f.Name, err))
		}
		return n, true
	}
	if value, ok := number("default"); ok {
		made["default"] = value
	}
	between := object{}
	for tag, key := range map[string]string{"min": "minimum", "max": "maximum"} {
		if value, ok := number(tag); ok {
			between[key] = value
		}
	}
	if zero && made["default"] != nil && len(between) > 0 {
		made["anyOf"] = []any{object{"const": 0}, between}
	} else {
		maps.Copy(made, between)
	}
	return made
}

// typeName is the name of the definition of a type.
func typeName(t reflect.Type) string {
	name := regexp.MustCompile(`[^A-Za-z0-9]+`).ReplaceAllString(t.String(), "-")
	return strings.Trim(strings.TrimPrefix(name, "config-"), "-")
}

// typeComment is what the source says of a type, or of the one embedded in it.
func (m *schemaMaker) typeComment(t reflect.Type) string {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if text := m.comments[t.PkgPath()+"."+t.Name()]; text != "" {
		return text
	}
	for f := range t.Fields() {
		if f.Anonymous {
			return m.typeComment(f.Type)
		}
	}
	return ""
}

// comment is what the source says of a field, which may be that of an embedded
// struct.
func (m *schemaMaker) comment(t reflect.Type, f reflect.StructField) string {
	owner := ownerOf(t, f)
	name, _, _ := strings.Cut(owner.Name(), "[")
	text := m.comments[owner.PkgPath()+"."+name+"."+f.Name]
	if text == "" && owner.PkgPath() == reflect.TypeFor[document]().PkgPath() {
		// A field that takes the place of one of the library.
		for e := range owner.Fields() {
			if g, ok := e.Type, e.Anonymous; ok && g.Kind() == reflect.Struct {
				if inner, ok := g.FieldByName(f.Name); ok {
					return m.comment(g, inner)
				}
			}
		}
	}
	return text
}

// fieldComments reads the comments of all structs that a file can have, and of
// their fields.
func fieldComments(t *testing.T) map[string]string {
	t.Helper()
	comments := map[string]string{}
	for _, dir := range []string{"", "config", "datascript", "datascript/jwtkeys", "ipgroup", "lbpool", "persistence", "persistence/redisstore", "policy"} {
		files, err := filepath.Glob(filepath.Join("..", dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		files = slices.DeleteFunc(files, func(name string) bool { return strings.HasSuffix(name, "_test.go") })
		pkg := strings.TrimSuffix("github.com/limpetlb/limpet/"+dir, "/")
		for _, name := range files {
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if decl, ok := n.(*ast.GenDecl); ok && decl.Tok == token.TYPE && len(decl.Specs) == 1 {
					comments[pkg+"."+decl.Specs[0].(*ast.TypeSpec).Name.Name] = sentence(decl.Doc.Text())
				}
				spec, ok := n.(*ast.TypeSpec)
				if !ok {
					return true
				}
				if text := spec.Doc.Text(); text != "" {
					comments[pkg+"."+spec.Name.Name] = sentence(text)
				}
				if s, ok := spec.Type.(*ast.StructType); ok {
					for _, field := range s.Fields.List {
						text := field.Doc.Text()
						if text == "" {
							text = field.Comment.Text()
						}
						for _, id := range field.Names {
							comments[pkg+"."+spec.Name.Name+"."+id.Name] = sentence(text)
						}
					}
				}
				return true
			})
		}
	}
	return comments
}

// sentence is a comment as plain text in one line.
func sentence(text string) string {
	var p comment.Parser
	plain := string((&comment.Printer{TextWidth: -1}).Text(p.Parse(text)))
	plain = strings.NewReplacer("[", "", "]", "").Replace(plain)
	return strings.Join(strings.Fields(plain), " ")
}
