package fielderr

import (
	"cmp"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// ErrIn is Err in the order of the fields of v, which has the faults: fields as
// their struct declares them, items by position, and keys sorted. Faults of the
// same field stay in the order in which they were added.
func (l *List) ErrIn(v any) error {
	type placed struct {
		err error
		at  []step
	}
	all := make([]placed, len(l.errs))
	for i, err := range l.errs {
		all[i].err = err
		if fault, ok := err.(*Error); ok { //nolint:errorlint // as in Under
			all[i].at = steps(reflect.ValueOf(v), fault.Path)
		}
	}
	slices.SortStableFunc(all, func(a, b placed) int { return slices.CompareFunc(a.at, b.at, step.compare) })
	for i, p := range all {
		l.errs[i] = p.err
	}
	return l.Err()
}

// A step is one part of a path: the index of a field or an item, or a key.
type step struct {
	index int
	key   string
}

func (s step) compare(t step) int {
	return cmp.Or(cmp.Compare(s.index, t.index), strings.Compare(s.key, t.key))
}

// steps follows a path within v as far as it goes.
func steps(v reflect.Value, path string) []step {
	var all []step
	for path != "" {
		for v.Kind() == reflect.Interface || v.Kind() == reflect.Pointer {
			if v.IsNil() && v.Kind() == reflect.Pointer {
				v = reflect.Zero(v.Type().Elem())
			} else {
				v = v.Elem()
			}
		}
		var s step
		var ok bool
		if rest, item := strings.CutPrefix(path, "["); item {
			v, s, path, ok = itemOf(v, rest)
		} else {
			v, s, path, ok = fieldOf(v, path)
		}
		if !ok {
			break
		}
		all = append(all, s)
	}
	return all
}

// itemOf goes from a list or a mapping to one of its items.
func itemOf(v reflect.Value, path string) (item reflect.Value, s step, rest string, ok bool) {
	key, err := strconv.QuotedPrefix(path)
	if err != nil {
		key, _, _ = strings.Cut(path, "]")
	}
	rest = strings.TrimPrefix(strings.TrimPrefix(path[len(key):], "]"), ".")
	switch v.Kind() {
	case reflect.Map:
		s.key, _ = strconv.Unquote(key)
		if v.Type().Key().Kind() == reflect.String {
			item = v.MapIndex(reflect.ValueOf(s.key).Convert(v.Type().Key()))
		}
		return item, s, rest, true
	case reflect.Slice, reflect.Array:
		s.index, err = strconv.Atoi(key)
		if err == nil && 0 <= s.index && s.index < v.Len() {
			item = v.Index(s.index)
		}
		return item, s, rest, err == nil
	default:
		return item, s, rest, false
	}
}

// fieldOf goes from a struct to one of its fields. A value of an unexported
// type may keep the configuration that it was made of in a field named cfg.
func fieldOf(v reflect.Value, path string) (field reflect.Value, s step, rest string, ok bool) {
	name := path
	if i := strings.IndexAny(path, ".["); i >= 0 {
		name = path[:i]
	}
	for v.Kind() == reflect.Struct {
		for i, f := range reflect.VisibleFields(v.Type()) {
			if f.IsExported() && Name(f.Name) == name {
				field, err := v.FieldByIndexErr(f.Index)
				if err != nil {
					field = reflect.Zero(f.Type)
				}
				return field, step{index: i}, strings.TrimPrefix(path[len(name):], "."), true
			}
		}
		v = v.FieldByName("cfg")
	}
	return field, s, path, false
}
