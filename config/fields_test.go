package config

import (
	"bytes"
	"encoding"
	"encoding/base64"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/policy"
)

// A sampler writes YAML that sets every field that a type can have in a file.
type sampler struct {
	testing.TB
	seen map[reflect.Type]bool
}

// sample returns the texts of values of a type: one, or in a union one for each
// of its types.
func (s *sampler) sample(t reflect.Type) []string {
	switch reflect.New(t).Interface().(type) {
	case *time.Duration:
		return []string{"90s"}
	case *[]byte:
		return []string{"bytes"}
	case *secret:
		return []string{base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("s"), 32))}
	case *pairs:
		return []string{"{a: b}"}
	case *profileChoice:
		return s.sample(reflect.TypeFor[sessionProfile]())
	case *netip.Addr:
		return []string{"192.0.2.1"}
	case *netip.AddrPort:
		return []string{"192.0.2.1:80"}
	case *netip.Prefix:
		return []string{"192.0.2.0/24"}
	case *http.SameSite:
		return []string{"strict"}
	case *datascript.Event:
		return []string{"HTTP_REQ"}
	}
	if c, ok := reflect.TypeAssert[choice](reflect.New(t)); ok {
		_, own := c.parts()
		return s.sample(reflect.TypeOf(own()).Elem())
	}
	if types := unions[t]; types != nil {
		var all []string
		for i, name := range typeNames(types) {
			member := types[i]
			if member.Kind() == reflect.Pointer {
				member = member.Elem()
			}
			for _, text := range s.sample(member) {
				all = append(all, fmt.Sprintf("{%s: %s}", name, text))
			}
		}
		return all
	}
	if t.Kind() == reflect.Uint8 {
		last := "" // the first may be zero
		for i := range 256 {
			c := reflect.New(t).Elem()
			c.SetUint(uint64(i))
			if text, err := c.Interface().(encoding.TextMarshaler).MarshalText(); err == nil {
				last = strconv.Quote(string(text))
			}
		}
		return []string{last}
	}
	switch t.Kind() {
	case reflect.Struct:
		return s.structs(t)
	case reflect.Pointer:
		return s.sample(t.Elem())
	case reflect.Slice:
		return []string{"[" + strings.Join(s.sample(t.Elem()), ", ") + "]"}
	case reflect.Map:
		return []string{"{Key: " + s.sample(t.Elem())[0] + "}"}
	case reflect.String:
		return []string{"text"}
	case reflect.Bool:
		return []string{"true"}
	case reflect.Int, reflect.Int64, reflect.Uint16, reflect.Float64:
		return []string{"7"}
	}
	s.Errorf("there is no form for %v in a file", t)
	return nil
}

// structs returns as many texts as the field with the most samples has.
func (s *sampler) structs(t reflect.Type) []string {
	fields := fieldsOf(t).list
	for _, f := range fields {
		if slices.ContainsFunc(fields, func(g reflect.StructField) bool {
			return g.Name != f.Name && fielderr.Name(g.Name) == fielderr.Name(f.Name)
		}) {
			s.Errorf("%v has two fields of the name %s", t, fielderr.Name(f.Name))
		}
	}
	for f := range t.Fields() {
		in := slices.ContainsFunc(fields, func(g reflect.StructField) bool { return g.Name == f.Name })
		if f.IsExported() && !f.Anonymous && !in && !slices.Contains(programOnly[t], f.Name) {
			s.Errorf("%v.%s has no form in a file and is not among those for programs only", t, f.Name)
		}
	}
	for _, name := range programOnly[t] {
		if _, ok := t.FieldByName(name); !ok {
			s.Errorf("%v has no field %s, which is said to be for programs only", t, name)
		}
	}
	samples := make([][]string, len(fields))
	most := 1
	for i, f := range fields {
		samples[i] = s.sample(f.Type)
		if words := accepted[ownerOf(t, f)][f.Name]; words != nil {
			samples[i] = words[len(words)-1:]
		}
		most = max(most, len(samples[i]))
	}
	var all []string
	for n := range most {
		var text []string
		for i, f := range fields {
			if len(samples[i]) > 0 {
				text = append(text, fielderr.Name(f.Name)+": "+samples[i][n%len(samples[i])])
			}
		}
		all = append(all, "{"+strings.Join(text, ", ")+"}")
	}
	return all
}

// set reports what is not set in a value of which everything should be.
func (s *sampler) set(v reflect.Value, path string) {
	if v.IsZero() && !(v.Kind() == reflect.Struct && v.NumField() == 0) {
		s.Errorf("%s has not been set", path)
		return
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		s.set(v.Elem(), path)
	case reflect.Slice:
		for i := range v.Len() {
			if v.Type().Elem().Kind() != reflect.Uint8 {
				s.set(v.Index(i), fmt.Sprintf("%s[%d]", path, i))
			}
		}
	case reflect.Struct:
		s.seen[v.Type()] = true
		if v.Type().PkgPath() == "net/netip" {
			return
		}
		for _, f := range fieldsOf(v.Type()).list {
			s.seen[v.Type().FieldByIndex(f.Index[:1]).Type] = true
			s.set(v.FieldByIndex(f.Index), join(path, f.Name))
		}
	}
}

// Every field of what a configuration is made of can be set in a file, but for
// those of which it is said that they are for programs; so a new field is
// noticed if it has no form.
func TestEveryField(t *testing.T) {
	t.Parallel()
	s := &sampler{t, map[reflect.Type]bool{}}
	texts := s.sample(reflect.TypeFor[document]())
	if t.Failed() {
		return
	}
	for _, text := range texts {
		c, err := decoded(s.TB.(*testing.T), text)
		if err != nil {
			t.Fatal(err)
		}
		s.set(reflect.ValueOf(c).Elem(), "")
	}
	for _, want := range []any{
		policy.NetworkRule{}, policy.NetworkLimit{}, policy.SecurityRule{}, policy.RequestRule{}, policy.ResponseRule{}, policy.Match{}, policy.HeaderMatch{},
		policy.RateLimit{}, policy.Rate{}, policy.RewriteLocation{}, policy.RemoveCookie{}, tcpChecker{}, httpChecker{}, dns{}, ipGroup{}, customHeader{}, fewestServers{},
	} {
		if !s.seen[reflect.TypeOf(want)] {
			t.Errorf("no %T was read", want)
		}
	}
}

// A field that is forgotten is noticed.
func TestEveryFieldNotices(t *testing.T) {
	for _, v := range []any{
		struct{ F func() }{}, struct{ F error }{}, struct{ F chan int }{}, struct{ F []any }{}, struct{ AB, Ab string }{},
	} {
		s := &sampler{&noted{TB: t}, nil}
		s.sample(reflect.TypeOf(v))
		if !s.TB.(*noted).failed {
			t.Errorf("%T was not noticed", v)
		}
	}
}

// noted is a test that only notes that it fails.
type noted struct {
	testing.TB
	failed bool
}

func (n *noted) Errorf(string, ...any) { n.failed = true }

// Every type that the interfaces of package policy can hold has a form.
func TestUnions(t *testing.T) {
	t.Parallel()
	for union, method := range map[reflect.Type]string{
		reflect.TypeFor[policy.SecurityAction]():  "securityAction",
		reflect.TypeFor[policy.RequestAction]():   "requestAction",
		reflect.TypeFor[policy.RateLimitAction](): "rateLimitAction",
		reflect.TypeFor[policy.Edit]():            "edit",
	} {
		names := receivers(t, method)
		if len(names) < 2 {
			t.Errorf("%v is said to be held by %v alone", union, names)
		}
		for _, name := range names {
			if !slices.ContainsFunc(unions[union], func(t reflect.Type) bool { return t.Name() == name }) {
				t.Errorf("%v can hold a policy.%s, for which there is no form in a file", union, name)
			}
		}
	}
}

// receivers returns the exported types of package policy that have a method.
func receivers(t *testing.T, method string) (names []string) {
	t.Helper()
	files, err := filepath.Glob("../policy/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, text, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range f.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Recv != nil && f.Name.Name == method {
				if name, ok := f.Recv.List[0].Type.(*ast.Ident); ok && name.IsExported() {
					names = append(names, name.Name)
				}
			}
		}
	}
	return names
}
