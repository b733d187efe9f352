// Package configkeys lists the keys of a configuration, from the JSON Schema
// that package config makes of its types. The command explains a key with it,
// and the reference of all keys is made of it.
package configkeys

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A Key is one of a mapping in a configuration.
type Key struct {
	// Paths are where the key may stand, the shortest first: the keys above it
	// and its own, such as pools.healthMonitors.interval, without places in
	// lists.
	Paths    []string
	Mapping  string   // which the key belongs to, as the schema calls it
	Type     string   // what its value is
	Unit     string   // of the value; empty if it has none
	Default  string   // empty if there is none, or only the text knows it
	Min, Max string   // bounds; empty if there is none
	Reload   string   // what a reload does with a change: live, fresh or restart, and why
	Since    string   // the version that had it first
	Text     string   // what it is for, in one sentence
	Keys     []string // of the mapping that is its value, or of those in the list
	Example  string   // a line of a configuration
}

// Name is the last word of the key's paths.
func (k *Key) Name() string { return k.Paths[0][strings.LastIndexByte(k.Paths[0], '.')+1:] }

// List is all keys of a configuration.
type List []*Key

// Parse lists the keys of a schema, in the order of their shortest paths.
func Parse(schema []byte) (List, error) {
	var root struct {
		node
		Defs map[string]node `json:"$defs"`
	}
	if err := json.Unmarshal(schema, &root); err != nil {
		return nil, err
	}
	w := walk{defs: root.Defs, keys: map[string]*Key{}, since: root.Since}
	if err := w.below(root.node, place{}, nil); err != nil {
		return nil, err
	}
	list := slices.Collect(maps.Values(w.keys))
	for _, k := range list {
		slices.SortFunc(k.Paths, shorter)
	}
	slices.SortFunc(list, func(a, b *Key) int { return strings.Compare(a.Paths[0], b.Paths[0]) })
	return list, nil
}

// shorter compares paths by their number of words.
func shorter(a, b string) int {
	return cmp.Or(cmp.Compare(strings.Count(a, "."), strings.Count(b, ".")), strings.Compare(a, b))
}

// place in a list, or of a key of any name, as errors have it.
var placed = regexp.MustCompile(`\[(\d+|"[^"]*")\]`)

// Find returns the keys whose paths end with the words of a path, which may
// have places in lists, as in errors: pools[0].name. If it is the whole path of
// a key, that is the first of them, and exact.
func (l List) Find(path string) (found List, exact bool) {
	path = placed.ReplaceAllString(path, "")
	for _, k := range l {
		if slices.Contains(k.Paths, path) {
			found, exact = slices.Insert(found, 0, k), true
		} else if slices.ContainsFunc(k.Paths, func(p string) bool { return strings.HasSuffix(p, "."+path) }) {
			found = append(found, k)
		}
	}
	return found, exact
}

// Endings returns the last n words of all paths, each with a key that has it.
func (l List) Endings(n int) map[string]*Key {
	all := map[string]*Key{}
	for _, k := range l {
		for _, path := range k.Paths {
			if words := strings.Split(path, "."); len(words) >= n {
				ending := strings.Join(words[len(words)-n:], ".")
				if all[ending] == nil {
					all[ending] = k
				}
			}
		}
	}
	return all
}

// A node is what a schema says of a value.
type node struct {
	Type                 json.RawMessage `json:"type"`
	Ref                  string          `json:"$ref"`
	Description          string          `json:"description"`
	AllOf                []node          `json:"allOf"`
	AnyOf                []node          `json:"anyOf"`
	Properties           map[string]node `json:"properties"`
	Items                *node           `json:"items"`
	AdditionalProperties json.RawMessage `json:"additionalProperties"`
	Enum                 []any           `json:"enum"`
	Default              any             `json:"default"`
	Minimum              json.Number     `json:"minimum"`
	Maximum              json.Number     `json:"maximum"`
	MinDuration          string          `json:"x-minimum"`
	MaxDuration          string          `json:"x-maximum"`
	Reload               string          `json:"x-reload"` // live unless given
	Since                string          `json:"x-since"`  // that of the schema unless given
	Examples             []any           `json:"examples"`
}

// A place is where a mapping stands: the path, and what stands around it in a
// line of a configuration.
type place struct{ path, before, after string }

// walk collects the keys of a schema.
type walk struct {
	defs map[string]node
	keys map[string]*Key // by mapping and name

	since string // the version that had the first keys
}

// resolved returns what n refers to, and the name of that.
func (w *walk) resolved(n node) (node, string, error) {
	if len(n.AllOf) == 1 {
		n = n.AllOf[0]
	}
	if n.Ref == "" {
		return n, "", nil
	}
	name := strings.TrimPrefix(n.Ref, "#/$defs/")
	def, ok := w.defs[name]
	if !ok {
		return n, name, fmt.Errorf("there is no %s", n.Ref)
	}
	return def, name, nil
}

// elsewhere is what any single value may be instead.
const elsewhere = "#/$defs/elsewhere"

// mapping is resolved, and returns the mapping of a value that is that or a
// name.
func (w *walk) mapping(n node) (node, string, error) {
	def, name, err := w.resolved(n)
	if err != nil {
		return def, name, err
	}
	for _, form := range def.AnyOf {
		if form.Ref == "" || form.Ref == elsewhere {
			continue
		}
		inner, of, err := w.resolved(form)
		if err != nil {
			return inner, of, err
		}
		if _, single := scalars[of]; !single {
			return inner, of, nil
		}
	}
	return def, name, nil
}

// types are the types of JSON that n names: one or a list.
func (n *node) types() (all []string) {
	var one string
	if json.Unmarshal(n.Type, &one) == nil {
		return []string{one}
	}
	_ = json.Unmarshal(n.Type, &all) // none are no types
	return all
}

// values returns what the values of a mapping of any keys are.
func (n *node) values() (v node, ok bool) {
	if len(n.AdditionalProperties) == 0 || n.AdditionalProperties[0] != '{' {
		return node{}, false
	}
	return v, json.Unmarshal(n.AdditionalProperties, &v) == nil
}

// below collects the keys below n, which stands in mappings of these names.
func (w *walk) below(n node, at place, in []string) error {
	n, name, err := w.mapping(n)
	if err != nil {
		return err
	}
	if name != "" {
		if slices.Contains(in, name) {
			return fmt.Errorf("%s contains itself", name)
		}
		in = append(slices.Clone(in), name)
	}
	if values, ok := n.values(); ok {
		return w.below(values, place{at.path, at.before + "{NAME: ", "}" + at.after}, in)
	}
	if n.Items != nil {
		return w.below(*n.Items, place{at.path, at.before + "[", "]" + at.after}, in)
	}
	for _, form := range n.AnyOf {
		if form.Properties != nil { // of a union
			n.Properties = form.Properties
		}
	}
	if at.path != "" {
		at = place{at.path + ".", at.before + "{", "}" + at.after}
	}
	for key, value := range n.Properties {
		id := cmp.Or(name, at.path) + "." + key
		path := at.path + key
		k := w.keys[id]
		if k == nil {
			if k, err = w.key(value); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			k.Mapping = cmp.Or(name, at.path)
			w.keys[id] = k
		}
		if len(k.Paths) == 0 || slices.MinFunc(k.Paths, shorter) != slices.MinFunc(append(k.Paths, path), shorter) {
			example, err := w.example(value)
			if err != nil {
				return err
			}
			if k.Example = ""; example != "" {
				k.Example = at.before + key + ": " + example + at.after
			}
		}
		k.Paths = append(k.Paths, path)
		if err := w.below(value, place{path, at.before + key + ": ", at.after}, in); err != nil {
			return err
		}
	}
	return nil
}

// key describes the key of a value.
func (w *walk) key(value node) (*Key, error) {
	k := &Key{Text: sentence(value.Description), Min: value.MinDuration, Max: value.MaxDuration, Reload: cmp.Or(value.Reload, "live"), Since: cmp.Or(value.Since, w.since)}
	for _, n := range append([]node{value}, value.AnyOf...) {
		k.Min, k.Max = cmp.Or(k.Min, n.Minimum.String()), cmp.Or(k.Max, n.Maximum.String())
	}
	if value.Default != nil {
		k.Default = flow(value.Default)
	}
	var err error
	if k.Type, err = w.typeOf(value, false); err != nil {
		return nil, err
	}
	def, name, err := w.resolved(value)
	if err != nil {
		return nil, err
	}
	k.Unit = scalars[name].unit
	for def.Items != nil {
		if def, _, err = w.resolved(*def.Items); err != nil {
			return nil, err
		}
	}
	if def, _, err = w.mapping(def); err != nil {
		return nil, err
	}
	k.Keys = slices.Sorted(maps.Keys(def.Properties))
	return k, nil
}

// A scalar is a kind of single values.
type scalar struct{ one, many, unit, example string }

// scalars are those that are no constants, by their names in a schema.
var scalars = map[string]scalar{
	"text":           {"text", "texts", "", ""},
	"truth":          {"true or false", "true or false", "", "true"},
	"integer":        {"whole number", "whole numbers", "", "1"},
	"number":         {"number", "numbers", "", "1"},
	"upTo65535":      {"whole number up to 65535", "whole numbers up to 65535", "", "8080"},
	"bytes":          {"size", "sizes", "bytes, or with KiB, MiB, GiB (1,024) or KB, MB, GB (1,000)", "64KiB"},
	"duration":       {"duration", "durations", "ns, us, ms, s, m, h, as in 1m30s", "10s"},
	"base64":         {"text in base64", "texts in base64", "", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="},
	"address":        {"IP address", "IP addresses", "", "192.0.2.1"},
	"addressAndPort": {"IP address and port", "IP addresses and ports", "", "192.0.2.1:80"},
	"network":        {"network", "networks", "", "192.0.2.0/24"},
	"event":          {"name of an event", "names of events", "", "HTTP_REQ"},
}

// typeOf describes values, one or many.
func (w *walk) typeOf(n node, many bool) (string, error) {
	def, name, err := w.resolved(n)
	if err != nil {
		return "", err
	}
	if s, ok := scalars[name]; ok {
		if many {
			return s.many, nil
		}
		return s.one, nil
	}
	of, form := node{}, ""
	if values, ok := def.values(); ok {
		of, form = values, "mapping of any names to %s"
	} else if def.Items != nil {
		of, form = *def.Items, "list of %s"
	}
	if form != "" {
		if many {
			form = strings.Replace(strings.Replace(form, "mapping", "mappings", 1), "list", "lists", 1)
		}
		inner, err := w.typeOf(of, true)
		return fmt.Sprintf(form, inner), err
	}
	for _, alternative := range def.AnyOf {
		if len(alternative.Enum) > 0 {
			var words []string // each once, also if it may be a number
			for _, word := range alternative.Enum {
				if text := fmt.Sprint(word); !slices.Contains(words, text) {
					words = append(words, text)
				}
			}
			text := strings.Join(words, ", ")
			if !slices.ContainsFunc(def.AnyOf, func(n node) bool { return n.Properties != nil }) {
				return "one of " + text, nil
			}
			return "one of " + text + "; or a mapping of one of them to its keys", nil
		}
	}
	var forms []string
	for _, alternative := range def.AnyOf {
		switch {
		case alternative.Ref == elsewhere:
		case alternative.Ref != "", alternative.Items != nil:
			form, err := w.typeOf(alternative, many)
			if err != nil {
				return "", err
			}
			forms = append(forms, form)
		case slices.Contains(alternative.types(), "string"):
			form := scalars["text"].one
			if many {
				form = scalars["text"].many
			}
			forms = append(forms, form)
		}
	}
	if len(forms) > 0 {
		return strings.Join(forms, ", or "), nil
	}
	if def.Properties == nil {
		return "", fmt.Errorf("%s is of no known kind", cmp.Or(name, "a value"))
	}
	if many {
		return "mappings", nil
	}
	return "mapping", nil
}

// example is a value.
func (w *walk) example(value node) (string, error) {
	if len(value.Examples) > 0 {
		return flow(value.Examples[0]), nil
	}
	def, name, err := w.resolved(value)
	if err != nil {
		return "", err
	}
	if s, ok := scalars[name]; ok {
		if value.Default != nil {
			return flow(value.Default), nil
		}
		for _, n := range append([]node{value}, value.AnyOf...) {
			if least, err := n.Minimum.Float64(); err == nil && least > 0 {
				return n.Minimum.String(), nil
			}
		}
		return cmp.Or(value.MinDuration, s.example), nil
	}
	if values, ok := def.values(); ok {
		inner, err := w.example(values)
		return "{NAME: " + inner + "}", err
	}
	if def.Items != nil {
		inner, err := w.example(*def.Items)
		if inner == "" {
			return "", err
		}
		return "[" + inner + "]", err
	}
	for _, alternative := range def.AnyOf {
		if len(alternative.Enum) > 0 {
			return flow(alternative.Enum[0]), nil
		}
	}
	if def, _, err = w.mapping(def); err != nil {
		return "", err
	}
	shown := "{}" // or one key, if possible one with an example
	for _, key := range slices.Sorted(maps.Keys(def.Properties)) {
		property := def.Properties[key]
		_, kind, err := w.resolved(property)
		if err != nil {
			return "", err
		}
		if _, single := scalars[kind]; len(property.Examples) == 0 && (!single || shown != "{}") {
			continue
		}
		inner, err := w.example(property)
		if err != nil {
			return "", err
		}
		if inner != "" {
			shown = "{" + key + ": " + inner + "}"
		}
		if len(property.Examples) > 0 {
			break
		}
	}
	return shown, nil
}

// plain texts need no quotes in a line of YAML.
var plain = regexp.MustCompile(`^[A-Za-z0-9/.][A-Za-z0-9 _/.@=+-]*(:[A-Za-z0-9/][A-Za-z0-9_/.@=+-]*)*$`)

// special texts are something else without quotes.
var special = regexp.MustCompile(`^(?i:true|false|null|yes|no|on|off|~|[+-]?[0-9.][0-9._]*(e[+-]?[0-9]+)?|0[xo][0-9a-f]+)$|^\s|\s$`)

// flow is a value of JSON as YAML writes it in one line.
func flow(value any) string {
	switch v := value.(type) {
	case string:
		if plain.MatchString(v) && !special.MatchString(v) {
			return v
		}
		return strconv.Quote(v)
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case []any:
		items := make([]string, len(v))
		for i, item := range v {
			items[i] = flow(item)
		}
		return "[" + strings.Join(items, ", ") + "]"
	case map[string]any:
		var entries []string
		for _, key := range slices.Sorted(maps.Keys(v)) {
			entries = append(entries, flow(key)+": "+flow(v[key]))
		}
		return "{" + strings.Join(entries, ", ") + "}"
	}
	return fmt.Sprint(value)
}

// end of a sentence.
var end = regexp.MustCompile(`\.( |$)`)

// sentence returns the first sentence of a comment, which may be less than a
// sentence.
func sentence(text string) string {
	if at := end.FindStringIndex(text); at != nil {
		text = text[:at[0]]
	}
	if text == "" {
		return ""
	}
	first, size := utf8.DecodeRuneInString(text)
	return string(unicode.ToUpper(first)) + text[size:] + "."
}
