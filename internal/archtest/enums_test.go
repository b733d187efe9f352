package archtest

import (
	"encoding"
	"fmt"
	"go/constant"
	"go/types"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/admin"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/datascript/datascripttest"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
	"github.com/limpetlb/limpet/persistence/redisstore"
	"github.com/limpetlb/limpet/policy"
)

// enumerations are all exported integer types with constants.
var enumerations = []reflect.Type{
	reflect.TypeFor[limpet.Forward](), reflect.TypeFor[limpet.OnError](), reflect.TypeFor[limpet.Outcome](), reflect.TypeFor[limpet.Significance](), reflect.TypeFor[admin.Role](),
	reflect.TypeFor[datascript.Event](), reflect.TypeFor[datascript.RateAction](),
	reflect.TypeFor[datascripttest.Algorithm](), reflect.TypeFor[datascripttest.Closing](),
	reflect.TypeFor[lbpool.FailKind](), reflect.TypeFor[lbpool.HashKey](), reflect.TypeFor[lbpool.QueueOrder](), reflect.TypeFor[lbpool.Reason](),
	reflect.TypeFor[lbpool.Protocol](), reflect.TypeFor[lbpool.Repick](), reflect.TypeFor[lbpool.State](),
	reflect.TypeFor[persistence.DeletionCause](), reflect.TypeFor[persistence.WhenFull](),
	reflect.TypeFor[redisstore.WhenDown](),
	reflect.TypeFor[policy.Action](), reflect.TypeFor[policy.Op](), reflect.TypeFor[policy.Protocol](), reflect.TypeFor[policy.StringGroupKind](),
}

// TestEnumerations has every constant of every exported integer type there and
// back as text: some types had no text, so that a file and a log could not say
// the same, and a mistake in a file was told without the words to choose from.
func TestEnumerations(t *testing.T) {
	m, err := thisModule()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]uint64{}
	for _, p := range m.Packages {
		if !p.IsImportable() {
			continue
		}
		scope := p.Types.Scope()
		for _, name := range scope.Names() {
			c, ok := scope.Lookup(name).(*types.Const)
			if !ok || !c.Exported() {
				continue
			}
			named, ok := c.Type().(*types.Named)
			if !ok || named.Obj().Pkg() != p.Types || named.Underlying().(*types.Basic).Info()&types.IsInteger == 0 {
				continue
			}
			if n, ok := constant.Uint64Val(c.Val()); ok {
				key := p.Types.Path() + "." + named.Obj().Name()
				found[key] = append(found[key], n)
			}
		}
	}
	var listed []string
	for _, typ := range enumerations {
		name := typ.PkgPath() + "." + typ.Name()
		listed = append(listed, name)
		t.Run(typ.String(), func(t *testing.T) { testEnumeration(t, typ, found[name]) })
	}
	slices.Sort(listed)
	if diff := cmp.Diff(slices.Sorted(maps.Keys(found)), listed); diff != "" {
		t.Errorf("enumerations in the table (-exported +there):\n%s", diff)
	}
}

func testEnumeration(t *testing.T, typ reflect.Type, constants []uint64) {
	texts := map[string]uint64{}
	longest := ""
	for _, n := range constants {
		c := reflect.New(typ)
		c.Elem().SetUint(n)
		value, ok := reflect.TypeAssert[encoding.TextMarshaler](c.Elem())
		read, ok2 := reflect.TypeAssert[encoding.TextUnmarshaler](c)
		if !ok || !ok2 {
			t.Fatal("there is no MarshalText or UnmarshalText")
		}
		text, err := value.MarshalText()
		if shown := fmt.Sprint(value); err != nil || shown != string(text) {
			t.Errorf("%d: text %q, %v, String %q", n, text, err, shown)
		}
		if other, taken := texts[string(text)]; taken {
			t.Errorf("%d and %d are both %q", n, other, text)
		}
		texts[string(text)] = n
		if len(text) > len(longest) {
			longest = string(text)
		}
		for _, form := range []string{string(text), strings.ToUpper(string(text)), strings.ReplaceAll(string(text), " ", "_"), strings.ReplaceAll(string(text), " ", "-")} {
			c.Elem().SetUint(200)
			if err := read.UnmarshalText([]byte(form)); err != nil || c.Elem().Uint() != n {
				t.Errorf("%q is %d, %v, want %d", form, c.Elem().Uint(), err, n)
			}
		}
	}
	c := reflect.New(typ)
	c.Elem().SetUint(200)
	if text, err := c.Interface().(encoding.TextMarshaler).MarshalText(); err == nil || fmt.Sprint(c.Elem().Interface()) != "invalid" {
		t.Errorf("200 is %q", text)
	}
	err := c.Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte("x" + longest))
	if err == nil || c.Elem().Uint() != 200 {
		t.Fatalf("%q is %d, %v", "x"+longest, c.Elem().Uint(), err)
	}
	for text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("the error does not list %q: %v", text, err)
		}
	}
	if want := fmt.Sprintf("; did you mean %q?", longest); !strings.HasSuffix(err.Error(), want) {
		t.Errorf("the error does not end in %s: %v", want, err)
	}
}
