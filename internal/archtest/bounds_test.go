package archtest

import (
	"go/types"
	"reflect"
	"testing"
	"time"

	"github.com/limpetlb/limpet/internal/bounds"
	"github.com/limpetlb/limpet/internal/fielderr"
)

// TestBounds reads the tags of all fields of exported structs that configure
// something: those that are printed have names for that, and implied is text
// for users. A default must be within the bounds, and a tag of a misspelt name
// would bound nothing.
func TestBounds(t *testing.T) {
	m, err := thisModule()
	if err != nil {
		t.Fatal(err)
	}
	tagged := 0
	for _, p := range m.Packages {
		if !p.IsPublic() {
			continue
		}
		for _, name := range p.Types.Scope().Names() {
			object := p.Types.Scope().Lookup(name)
			s, ok := object.Type().Underlying().(*types.Struct)
			if !ok || !object.Exported() {
				continue
			}
			for i := range s.NumFields() {
				tag := s.Tag(i)
				_, printed := reflect.StructTag(tag).Lookup("json")
				_, implied := reflect.StructTag(tag).Lookup("implied")
				if tag != "" && !printed && !implied {
					tagged++
					testBounds(t, p.Path+"."+name+"."+s.Field(i).Name(), s.Field(i), reflect.StructTag(tag))
				}
			}
		}
	}
	if tagged == 0 {
		t.Error("no field has a tag")
	}
}

func testBounds(t *testing.T, name string, field *types.Var, tag reflect.StructTag) {
	rest := tag
	for _, key := range []string{"unit", "default", "min", "max", "negative"} {
		if value, ok := tag.Lookup(key); ok {
			rest = rest[min(len(rest), len(key)+len(`:""`)+len(value)+1):]
		}
	}
	if rest != "" {
		t.Errorf("%s: the tag %s has more than unit, default, min, max and negative, in this order", name, tag)
	}
	typ, ok := map[string]reflect.Type{
		"int": reflect.TypeFor[int](), "int64": reflect.TypeFor[int64](), "uint16": reflect.TypeFor[uint16](), "float64": reflect.TypeFor[float64](),
		"time.Duration": reflect.TypeFor[time.Duration](),
	}[field.Type().String()]
	if !ok {
		t.Errorf("%s: no tags for the type %v are known", name, field.Type())
		return
	}
	v := reflect.New(reflect.StructOf([]reflect.StructField{{Name: field.Name(), Type: typ, Tag: tag}}))
	var faults fielderr.List
	bounds.SetDefaults(v.Interface())
	if _, ok := tag.Lookup("default"); ok {
		bounds.Check(name, v.Elem().Interface(), &faults)
		if v.Elem().Field(0).IsZero() {
			t.Errorf("%s: the default is zero", name)
		}
	}
	if err := faults.Err(); err != nil {
		t.Errorf("the default: %v", err)
	}
}
