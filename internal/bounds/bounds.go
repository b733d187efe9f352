// Package bounds reads the bounds and the defaults of fields from their tags,
// so that what is documented is what is enforced:
//
//	Interval time.Duration `default:"10s" min:"1ms" max:"1h"`
//	MaxBody  int           `unit:"bytes" max:"64MiB"`
//
// A field with a default may be zero, which means the default. Bounds are
// inclusive. A field that may be negative says what any negative value means:
//
//	Timeout time.Duration `default:"60s" negative:"no limit"`
//
// The tags are on fields of integer, float and [time.Duration] types; integers
// may have the units KiB, MiB and GiB. A field that is a number of bytes has
// `unit:"bytes"` as well, by which package config accepts these units.
//
// The tag implied shows a default to users that the code sets in another way,
// such as that of a pointer or an interface:
//
//	Algorithm Algorithm `implied:"leastConnections"`
package bounds

import (
	"cmp"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/limpetlb/limpet/internal/fielderr"
)

// Check adds a fault for each field of the struct v, or of the one that v
// points to, and of structs embedded in it, that is out of its bounds. The
// paths of the fields begin with path, which may be empty. It panics if a tag
// makes no sense.
func Check(path string, v any, faults *fielderr.List) {
	value := reflect.Indirect(reflect.ValueOf(v))
	for _, f := range fieldsOf(value.Type()) {
		if fault := f.fault(value.FieldByIndex(f.index)); fault != "" {
			faults.Addf(fielderr.Join(path, f.name), value.FieldByIndex(f.index).Interface(), "%s", fault)
		}
	}
}

// SetDefaults sets each field that is zero of the struct that p points to, and
// of structs embedded in it, to its default. It panics if a tag makes no sense.
func SetDefaults(p any) {
	v := reflect.ValueOf(p).Elem()
	for _, f := range fieldsOf(v.Type()) {
		if field := v.FieldByIndex(f.index); f.byDefault.IsValid() && field.IsZero() {
			field.Set(f.byDefault)
		}
	}
}

// A field has tags. What it has no tag for is not valid.
type field struct {
	index               []int
	name                string // in a path
	byDefault, min, max reflect.Value
	minText, maxText    string // as faults show them
	negative            bool   // whether it may be negative, whatever min is
}

// fault says what is wrong with the value of the field; "" for nothing.
func (f *field) fault(v reflect.Value) string {
	switch {
	case f.byDefault.IsValid() && v.IsZero(), f.negative && negative(v):
	case v.CanFloat() && math.IsNaN(v.Float()):
		return "not a number"
	case f.min.IsValid() && compare(v, f.min) < 0 && f.min.IsZero():
		return "negative"
	case f.min.IsValid() && compare(v, f.min) < 0:
		return "less than " + f.minText
	case f.max.IsValid() && compare(v, f.max) > 0:
		return "more than " + f.maxText
	}
	return ""
}

var known sync.Map // of []field, by reflect.Type

// fieldsOf returns the fields of a struct that have tags.
func fieldsOf(t reflect.Type) []field {
	if all, ok := known.Load(t); ok {
		return all.([]field)
	}
	var all []field
	for _, f := range reflect.VisibleFields(t) {
		read := func(tag string) (reflect.Value, string) {
			text, ok := f.Tag.Lookup(tag)
			if !ok {
				return reflect.Value{}, ""
			}
			v := parse(f, text)
			if !strings.HasSuffix(text, "iB") {
				text = fmt.Sprint(v)
			}
			return v, text
		}
		tagged := field{index: f.Index, name: fielderr.Name(f.Name)}
		tagged.byDefault, _ = read("default")
		tagged.min, tagged.minText = read("min")
		tagged.max, tagged.maxText = read("max")
		_, tagged.negative = f.Tag.Lookup("negative")
		if tagged.byDefault.IsValid() || tagged.min.IsValid() || tagged.max.IsValid() {
			all = append(all, tagged)
		}
	}
	known.Store(t, all)
	return all
}

// negative reports whether v is less than zero.
func negative(v reflect.Value) bool {
	return v.CanInt() && v.Int() < 0 || v.CanFloat() && v.Float() < 0
}

// compare returns -1, 0 or 1.
func compare(a, b reflect.Value) int {
	switch {
	case a.CanInt():
		return cmp.Compare(a.Int(), b.Int())
	case a.CanUint():
		return cmp.Compare(a.Uint(), b.Uint())
	}
	return cmp.Compare(a.Float(), b.Float())
}

var durationType = reflect.TypeFor[time.Duration]()

// parse returns the value that a tag of the field has.
func parse(field reflect.StructField, text string) reflect.Value {
	v := reflect.New(field.Type).Elem()
	var err error
	switch {
	case field.Type == durationType:
		var d time.Duration
		d, err = time.ParseDuration(text)
		v.SetInt(int64(d))
	case v.CanInt():
		var n int64
		n, err = parseInt(text)
		if err == nil && v.OverflowInt(n) {
			err = strconv.ErrRange
		}
		v.SetInt(n)
	case v.CanUint():
		var n int64
		n, err = parseInt(text)
		if err == nil && (n < 0 || v.OverflowUint(uint64(n))) {
			err = strconv.ErrRange
		}
		v.SetUint(uint64(n))
	case v.CanFloat():
		var f float64
		f, err = strconv.ParseFloat(text, 64)
		v.SetFloat(f)
	default:
		err = fmt.Errorf("no bounds for the type %v", field.Type)
	}
	if err != nil {
		panic(fmt.Sprintf("bounds: field %s: %q: %v", field.Name, text, err))
	}
	return v
}

func parseInt(text string) (int64, error) {
	number, shift := text, 0
	for i, unit := range []string{"KiB", "MiB", "GiB"} {
		if n, ok := strings.CutSuffix(text, unit); ok {
			number, shift = n, 10*(i+1)
		}
	}
	n, err := strconv.ParseInt(number, 0, 64)
	if err == nil && n<<shift>>shift != n {
		err = strconv.ErrRange
	}
	return n << shift, err
}
