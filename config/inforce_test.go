package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// An observer notes the values that objects consist of, by their paths.
type observer struct {
	values map[string]string
	seen   map[seenAt]bool
}

type seenAt struct {
	at uintptr
	of reflect.Type
}

// observed returns all that is in force in a runtime that does not serve: what
// its services, pools, tables, logs and listeners consist of, apart from the
// document that they were made of.
func observed(rt *Runtime) map[string]string {
	o := &observer{map[string]string{}, map[seenAt]bool{}}
	file, begun := rt.file.doc.Process, rt.begun.doc.Process
	file.StartWait, file.MaxConnections = begun.StartWait, begun.MaxConnections
	for name, root := range map[string]any{
		"process": file, "services": rt.services, "kept": rt.kept, "listeners": rt.listeners, "ends": rt.ends, "logs": rt.logs,
		"issuer": rt.options.Issuer,
	} {
		o.seen = map[seenAt]bool{}
		o.look(reflect.ValueOf(root), name)
	}
	return o.values
}

// opaque are packages whose objects are looked at no further: they are not made
// of a configuration, or change by themselves.
var opaque = []string{
	"sync", "net", "os", "internal/poll", "time", "context", "math/big", "crypto/x509", "crypto/ecdsa", "crypto/internal", "math/rand", "hash/maphash", "unique", "log/slog", "log",
	"github.com/yuin/gopher-lua", "github.com/limpetlb/limpet/internal/accept", "github.com/limpetlb/limpet/internal/lua51", "github.com/redis/rueidis", "regexp/syntax",
}

func isOpaque(t reflect.Type) bool {
	return slices.ContainsFunc(opaque, func(p string) bool { return t.PkgPath() == p || strings.HasPrefix(t.PkgPath(), p+"/") }) && t.Kind() == reflect.Struct
}

func (o *observer) note(path, value string) { o.values[path] = value }

func (o *observer) look(v reflect.Value, path string) {
	switch v.Kind() {
	case reflect.Invalid:
		o.note(path, "none")
	case reflect.Pointer:
		o.pointer(v, path)
	case reflect.Interface:
		if v.IsNil() {
			o.note(path, "none")
			return
		}
		o.note(path, v.Elem().Type().String())
		o.look(v.Elem(), path)
	case reflect.Struct:
		o.structs(v, path)
	case reflect.Map:
		o.maps(v, path)
	case reflect.Slice, reflect.Array:
		o.note(path+".len", fmt.Sprint(v.Len()))
		if v.Type().Elem().Kind() == reflect.Uint8 {
			o.note(path, fmt.Sprintf("%x", v))
			return
		}
		for i := range min(v.Len(), 40) {
			o.look(v.Index(i), fmt.Sprintf("%s[%d]", path, i))
		}
	case reflect.Func, reflect.Chan, reflect.UnsafePointer, reflect.Uintptr:
		o.note(path, fmt.Sprint(v.IsZero()))
	case reflect.String:
		o.note(path, v.String())
	case reflect.Bool:
		o.note(path, strconv.FormatBool(v.Bool()))
	case reflect.Int, reflect.Int64, reflect.Int32:
		o.note(path, strconv.FormatInt(v.Int(), 10))
	default:
		o.note(path, fmt.Sprint(v))
	}
}

func (o *observer) pointer(v reflect.Value, path string) {
	at := seenAt{v.Pointer(), v.Type()}
	if v.IsNil() || o.seen[at] {
		o.note(path, fmt.Sprint(v.IsNil()))
		return
	}
	o.seen[at] = true
	o.look(v.Elem(), path)
}

func (o *observer) structs(v reflect.Value, path string) {
	t := v.Type()
	switch {
	case t.PkgPath() == "sync/atomic" && strings.HasPrefix(t.Name(), "Pointer["):
		// Its first field is of the type [0]*T.
		of := t.Field(0).Type.Elem().Elem()
		o.pointer(reflect.NewAt(of, v.FieldByName("v").UnsafePointer()), path)
	case t.PkgPath() == "sync/atomic" && v.FieldByName("v").IsValid() && v.FieldByName("v").Kind() != reflect.UnsafePointer:
		o.look(v.FieldByName("v"), path)
	case t.PkgPath() == "regexp":
		o.note(path, v.FieldByName("expr").String())
	case t.PkgPath() == "crypto/x509" && t.Name() == "Certificate":
		o.note(path, fmt.Sprintf("%x", v.FieldByName("Raw")))
	case t.PkgPath() == "net/netip", t == reflect.TypeFor[document]():
		o.note(path, fmt.Sprint(v))
	case isOpaque(t):
	default:
		for i := range v.NumField() {
			o.look(v.Field(i), path+"."+t.Field(i).Name)
		}
	}
}

func (o *observer) maps(v reflect.Value, path string) {
	o.note(path+".len", fmt.Sprint(v.Len()))
	if k := v.Type().Key().Kind(); k == reflect.Pointer || k == reflect.Interface {
		return
	}
	byKey := map[string]reflect.Value{}
	for it := v.MapRange(); it.Next(); {
		byKey[fmt.Sprint(it.Key())] = it.Value()
	}
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		o.look(byKey[key], fmt.Sprintf("%s[%s]", path, key))
	}
}
