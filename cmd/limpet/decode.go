package main

import (
	"encoding"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/limpetlb/limpet/policy"
)

// A configuration file is read into the structs of the library themselves, so
// that whatever they can say can be written in a file:
//
//   - a field has its name in Go, the first word in lower case (fieldName);
//     the fields of an embedded struct stand beside those of the outer one,
//     which has precedence;
//   - a constant is written as its String method says it; case, spaces and
//     punctuation do not matter, so the name of most in Go is good as well;
//   - where Go has an interface, the file has a mapping with one key, the name
//     of a type in unions, or that name alone.
//
// What only a program can give is listed in programOnly. A struct of the
// command takes the place of one that refers to objects, such as pools, and
// names them.

// unions are the types that each interface can hold. Those that are pointers
// here are held by pointer.
var unions = map[reflect.Type][]reflect.Type{
	reflect.TypeFor[policy.SecurityAction](): {
		reflect.TypeFor[policy.Allow](), reflect.TypeFor[policy.Close](), reflect.TypeFor[policy.Respond](),
		reflect.TypeFor[policy.RedirectToHTTPS](), reflect.TypeFor[policy.RateLimit](),
	},
	reflect.TypeFor[policy.RateLimitAction](): {
		reflect.TypeFor[policy.Report](), reflect.TypeFor[policy.Close](), reflect.TypeFor[policy.Respond](), reflect.TypeFor[policy.Redirect](),
	},
	reflect.TypeFor[policy.RequestAction](): {
		reflect.TypeFor[policy.Modify](), reflect.TypeFor[policy.Redirect](), reflect.TypeFor[policy.Respond](),
	},
	reflect.TypeFor[policy.Edit](): {
		reflect.TypeFor[policy.AddHeader](), reflect.TypeFor[policy.ReplaceHeader](), reflect.TypeFor[policy.RemoveHeader](),
		reflect.TypeFor[policy.AddCookie](), reflect.TypeFor[policy.ReplaceCookie](), reflect.TypeFor[policy.RemoveCookie](),
	},
	reflect.TypeFor[algorithm](): {
		reflect.TypeFor[leastConnections](), reflect.TypeFor[roundRobin](), reflect.TypeFor[randomTwo](), reflect.TypeFor[leastLoad](),
		reflect.TypeFor[fastestResponse](), reflect.TypeFor[fewestServers](), reflect.TypeFor[consistentHash](),
	},
	reflect.TypeFor[checker]():        {reflect.TypeFor[*httpChecker](), reflect.TypeFor[*tcpChecker]()},
	reflect.TypeFor[finder]():         {reflect.TypeFor[*dns](), reflect.TypeFor[*ipGroup]()},
	reflect.TypeFor[sessionProfile](): {reflect.TypeFor[clientIP](), reflect.TypeFor[appCookie](), reflect.TypeFor[httpCookie](), reflect.TypeFor[customHeader]()},
}

// sameSites are constants without a String method.
var sameSites = map[string]http.SameSite{
	"lax": http.SameSiteLaxMode, "strict": http.SameSiteStrictMode, "none": http.SameSiteNoneMode, "default": http.SameSiteDefaultMode,
}

// A place is where something stands in a file.
type place struct{ line, column int }

func (p place) String() string { return fmt.Sprintf("%d:%d", p.line, p.column) }

// A decoder fills in values from a file.
type decoder struct {
	file    string
	anchors map[string]ast.Node
	depth   int               // of nodes within nodes
	places  map[string]place  // by path in Go, such as httpSecurity[0].action.status
	chosen  map[string]string // the type in a union, by its path
	faults  []error

	marred  []string // paths of faults
	earlier int      // how many of them are from before this stage
	lost    bool     // so much is missing that whatever refers to it would be reported, too
}

// maxDepth is more than any value is deep; aliases in themselves are deeper.
const maxDepth = 100

// decode reads data, the content of a file, into v, a pointer to a struct. It
// reports all faults, with their places.
func decode(file string, data []byte, v any) (*decoder, error) {
	d := &decoder{file: file, anchors: map[string]ast.Node{}, places: map[string]place{}, chosen: map[string]string{}}
	f, err := parser.ParseBytes(data, 0)
	d.lost = err != nil
	if syntax := (*yaml.SyntaxError)(nil); errors.As(err, &syntax) && syntax.Token != nil {
		at := syntax.Token.Position
		return d, fmt.Errorf("%s:%d:%d: %s", file, at.Line, at.Column, syntax.Message)
	}
	if err != nil {
		return d, fmt.Errorf("%s: %w", file, err)
	}
	var body ast.Node
	for _, doc := range f.Docs {
		switch {
		case doc.Body == nil:
		case body == nil:
			body = doc.Body
		default:
			d.fault(doc.Body, "", "a second document")
		}
	}
	if body != nil {
		ast.Walk(d, body)
		d.value(body, reflect.ValueOf(v).Elem(), "")
	}
	d.nextStage()
	return d, errors.Join(d.faults...)
}

// nextStage begins a stage, such as to build what was read. What stands where
// an earlier stage has found a fault is not reported again.
func (d *decoder) nextStage() { d.earlier = len(d.marred) }

// hides reports whether an earlier stage has found a fault at a path, in what
// it stands in, or in what stands there.
func (d *decoder) hides(path string) bool {
	within := func(inner, outer string) bool {
		rest, ok := strings.CutPrefix(inner, outer)
		return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
	}
	return path != "" && slices.ContainsFunc(d.marred[:d.earlier], func(fault string) bool {
		return fault != "" && (within(path, fault) || within(fault, path))
	})
}

// Visit notes anchors; it makes the decoder an [ast.Visitor].
func (d *decoder) Visit(n ast.Node) ast.Visitor {
	if a, ok := n.(*ast.AnchorNode); ok {
		name := a.Name.GetToken().Value
		if d.anchors[name] != nil {
			d.fault(a, "", "a second anchor %q", name)
		}
		d.anchors[name] = a.Value
	}
	return d
}

// fault notes what is wrong with n, which stands at a path.
func (d *decoder) fault(n ast.Node, path, format string, args ...any) {
	d.marred = append(d.marred, path)
	d.lost = d.lost || path == "" || namedItem.MatchString(strings.TrimSuffix(path, ".name"))
	d.noteFault(n, path, format, args...)
}

// namedItem is the path of a list whose items others refer to by name, or of
// an item.
var namedItem = regexp.MustCompile(`^(pools|poolGroups|geo|ipGroups|stringGroups|scripts|rateLimiters|persistenceProfiles)(\[\d+\])?$`)

func (d *decoder) noteFault(n ast.Node, path, format string, args ...any) {
	d.faults = append(d.faults, d.located(placeOf(n), path, fmt.Errorf(format, args...)))
}

func (d *decoder) located(at place, path string, err error) error {
	if path != "" {
		err = fmt.Errorf("%s: %w", d.shown(path), err)
	}
	if at == (place{}) {
		return err
	}
	return fmt.Errorf("%s:%v: %w", d.file, at, err)
}

// shown is a path as it is in the file, with the types in unions:
// httpSecurity[0].action.respond.status.
func (d *decoder) shown(path string) string {
	var b strings.Builder
	for i, c := range path {
		if name := d.chosen[path[:i]]; name != "" && c == '.' {
			b.WriteString("." + name)
		}
		b.WriteRune(c)
	}
	return b.String()
}

// pathText is a path at the beginning of an error of the library.
var pathText = regexp.MustCompile(`^(?:[A-Za-z]\w*(?:\[\d+\])?\.)*[A-Za-z]\w*(?:\[\d+\])?$`)

// locate adds the place to an error about what stands at a path or, as the
// library tells it at the beginning of the error's text, below. Packages spell
// paths in their own ways. It returns nil if an earlier stage has reported all
// that is wrong there.
func (d *decoder) locate(path string, err error) error {
	var all []error
	for _, err := range joined(err) {
		at := path
		text := strings.TrimPrefix(strings.TrimPrefix(err.Error(), "persistence: "), "rate limit: ")
		if below, rest, ok := strings.Cut(text, ": "); ok && pathText.MatchString(below) {
			at, err = filePath(path, below), errors.New(rest)
		}
		if d.hides(at) {
			continue
		}
		d.marred = append(d.marred, at)
		all = append(all, d.located(d.nearest(at), at, err))
	}
	return errors.Join(all...)
}

// joined takes apart an error that joins several, be it wrapped or not. If it
// is wrapped in a path, each of them gets that path.
func joined(err error) []error {
	for e := err; e != nil; e = errors.Unwrap(e) {
		list, ok := e.(interface{ Unwrap() []error })
		if !ok {
			continue
		}
		above, ok := strings.CutSuffix(strings.TrimSuffix(err.Error(), e.Error()), ": ")
		ok = ok && pathText.MatchString(above) && above != "persistence"
		var all []error
		for _, e := range list.Unwrap() {
			for _, e := range joined(e) {
				if below, _, isPath := strings.Cut(e.Error(), ": "); ok && isPath && pathText.MatchString(below) {
					e = fmt.Errorf("%s.%w", above, e)
				} else if ok {
					e = fmt.Errorf("%s: %w", above, e)
				}
				all = append(all, e)
			}
		}
		return all
	}
	return []error{err}
}

// filePath appends a path as the library writes it.
func filePath(path, below string) string {
	for name := range strings.SplitSeq(below, ".") {
		name, index, _ := strings.Cut(name, "[")
		if index != "" {
			index = "[" + index
		}
		if name == "rules" { // of a policy, whose rules are the list itself
			path += index
			continue
		}
		words := strings.Split(name, "_")
		for i, w := range words {
			if i > 0 && w != "" {
				words[i] = strings.ToUpper(w[:1]) + w[1:]
			}
		}
		path = join(path, fieldName(strings.Join(words, ""))+index)
	}
	return path
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// nearest returns the place of a path, or of what holds it.
func (d *decoder) nearest(path string) place {
	for path != "" {
		if at, ok := d.places[path]; ok {
			return at
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return place{}
}

func placeOf(n ast.Node) place {
	switch m := n.(type) {
	case *ast.MappingNode:
		if !m.IsFlowStyle && len(m.Values) > 0 {
			n = m.Values[0].Key
		}
	case *ast.MappingValueNode:
		n = m.Key
	}
	if n == nil || n.GetToken() == nil {
		return place{}
	}
	at := n.GetToken().Position
	return place{at.Line, at.Column}
}

// resolved returns what n stands for; nil if that is nothing.
func (d *decoder) resolved(n ast.Node, path string) ast.Node {
	for range maxDepth {
		switch m := n.(type) {
		case nil, *ast.NullNode:
			return nil
		case *ast.AnchorNode:
			n = m.Value
		case *ast.TagNode:
			d.fault(m, path, "the tag %s cannot be used", m.Start.Value)
			return nil
		case *ast.AliasNode:
			name := m.Value.GetToken().Value
			if n = d.anchors[name]; n == nil {
				d.fault(m, path, "no anchor %q", name)
				return nil
			}
		default:
			return n
		}
	}
	d.fault(n, path, "an alias of itself")
	return nil
}

// value reads n into v. A null is as good as nothing.
func (d *decoder) value(n ast.Node, v reflect.Value, path string) {
	d.places[path] = placeOf(n)
	if n = d.resolved(n, path); n == nil {
		return
	}
	if d.depth++; d.depth > maxDepth {
		d.fault(n, path, "deeper than %d levels", maxDepth)
	} else if !d.special(n, v, path) {
		d.plain(n, v, path)
	}
	d.depth--
}

// special reads types that have a form of their own, and reports whether this
// is one.
func (d *decoder) special(n ast.Node, v reflect.Value, path string) bool {
	set := func(parse func(text string) error) bool {
		text, ok := scalar(n)
		if !ok {
			d.fault(n, path, "want a text, not %s", kind(n))
		} else if err := parse(text); err != nil {
			d.fault(n, path, "%w", err)
		}
		return true
	}
	switch p := v.Addr().Interface().(type) {
	case *pairs:
		p.read(d, n, path)
		return true
	case *time.Duration:
		return set(func(text string) (err error) { *p, err = time.ParseDuration(text); return err })
	case *[]byte:
		return set(func(text string) error { *p = append([]byte{}, text...); return nil })
	case *http.SameSite:
		return set(func(text string) error {
			var ok bool
			if *p, ok = sameSites[plainly(text)]; !ok {
				return fmt.Errorf("%q is not one of default, lax, none, strict", text)
			}
			return nil
		})
	case encoding.TextUnmarshaler:
		return set(func(text string) error { return p.UnmarshalText([]byte(text)) })
	}
	if types := unions[v.Type()]; types != nil {
		d.union(n, v, path, types)
		return true
	}
	if v.Kind() != reflect.Uint8 || !v.Type().Implements(reflect.TypeFor[fmt.Stringer]()) {
		return false
	}
	return set(func(text string) error { return setConstant(v, text) })
}

// setConstant sets v to the constant of its type that is so written.
func setConstant(v reflect.Value, text string) error {
	var words []string
	for _, c := range constantsOf(v.Type()) {
		word := c.Interface().(fmt.Stringer).String()
		if plainly(word) == plainly(text) {
			v.Set(c)
			return nil
		}
		words = append(words, word)
	}
	return fmt.Errorf("%q is not one of %s", text, strings.Join(words, ", "))
}

// constantsOf returns the values of a type that are named.
func constantsOf(t reflect.Type) (all []reflect.Value) {
	for i := range 256 {
		c := reflect.New(t).Elem()
		c.SetUint(uint64(i))
		if word := c.Interface().(fmt.Stringer).String(); word != "invalid" && !strings.Contains(word, "(") {
			all = append(all, c)
		}
	}
	return all
}

// plainly returns the letters and digits of a text, in lower case.
func plainly(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			return -1
		}
		return unicode.ToLower(r)
	}, text)
}

// union reads one of several types into an interface.
func (d *decoder) union(n ast.Node, v reflect.Value, path string, types []reflect.Type) {
	name, isScalar := scalar(n)
	var content ast.Node
	if entries, ok := d.entries(n, path); ok && len(entries) == 1 {
		name, content = entries[0].key, entries[0].value
	} else if !isScalar {
		d.fault(n, path, "want one of %s, not %s", strings.Join(typeNames(types), ", "), kind(n))
		return
	}
	i := slices.Index(typeNames(types), name)
	if i < 0 {
		d.fault(n, path, "%q is not one of %s", name, strings.Join(typeNames(types), ", "))
		return
	}
	t, pointer := types[i], types[i].Kind() == reflect.Pointer
	if pointer {
		t = t.Elem()
	}
	p := reflect.New(t)
	at := placeOf(n)
	d.chosen[path] = name
	if content != nil {
		d.value(content, p.Elem(), path) // errors have no word of the type
	}
	d.places[path] = at
	if !pointer {
		p = p.Elem()
	}
	v.Set(p)
}

// typeNames are the names of types in a file.
func typeNames(types []reflect.Type) []string {
	names := make([]string, len(types))
	for i, t := range types {
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		names[i] = fieldName(strings.TrimSuffix(t.Name(), "Checker"))
	}
	return names
}

// plain reads what is like the YAML.
func (d *decoder) plain(n ast.Node, v reflect.Value, path string) {
	text, isScalar := scalar(n)
	kind := kind
	if t := v.Type(); t == reflect.TypeFor[cookieKey]() || t == reflect.TypeFor[[]cookieKey]() {
		kind = func(ast.Node) string { return "what is there" } // it may be the key
	}
	switch v.Kind() {
	case reflect.Struct:
		entries, ok := d.entries(n, path)
		if !ok {
			d.fault(n, path, "want a mapping, not %s", kind(n))
			return
		}
		d.fields(entries, v, path)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.value(n, v.Elem(), path)
	case reflect.Slice:
		list, ok := n.(*ast.SequenceNode)
		if !ok {
			d.fault(n, path, "want a list, not %s", kind(n))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), len(list.Values), len(list.Values)))
		for i, item := range list.Values {
			d.value(item, v.Index(i), fmt.Sprintf("%s[%d]", path, i))
		}
	case reflect.Map:
		entries, ok := d.entries(n, path)
		if !ok {
			d.fault(n, path, "want a mapping, not %s", kind(n))
			return
		}
		v.Set(reflect.MakeMap(v.Type()))
		for _, e := range entries {
			item := reflect.New(v.Type().Elem()).Elem()
			d.value(e.value, item, join(path, e.key))
			v.SetMapIndex(reflect.ValueOf(e.key), item)
		}
	case reflect.String:
		if !isScalar {
			d.fault(n, path, "want a text, not %s", kind(n))
		}
		v.SetString(text)
	case reflect.Bool:
		b, ok := n.(*ast.BoolNode)
		if !ok {
			d.fault(n, path, "want true or false, not %s", kind(n))
			return
		}
		v.SetBool(b.Value)
	case reflect.Int, reflect.Int64, reflect.Uint16, reflect.Float64:
		ofBytes := v.CanInt() && strings.HasSuffix(strings.ToLower(path), "bytes")
		if ofBytes {
			text = inBytes(text)
		}
		switch {
		case number(v, text):
		case ofBytes:
			d.fault(n, path, "want a number of bytes, such as 65536, 64KiB or 64KB, not %s", kind(n))
		default:
			d.fault(n, path, "want a number of type %v, not %s", v.Type(), kind(n))
		}
	default:
		panic(fmt.Sprintf("%s: there is no form for %v", path, v.Type()))
	}
}

// byteUnits are those of 1,024 bytes and of 1,000.
var byteUnits = map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "KB": 1e3, "MB": 1e6, "GB": 1e9}

// inBytes returns the number of bytes that a text such as "128KiB" is; any other
// text as it is.
func inBytes(text string) string {
	for unit, size := range byteUnits {
		digits, ok := strings.CutSuffix(text, unit)
		n, err := strconv.ParseInt(strings.ReplaceAll(strings.TrimSpace(digits), "_", ""), 10, 32)
		if ok && err == nil {
			return strconv.FormatInt(n*size, 10)
		}
	}
	return text
}

// number sets v to the number that text is, and reports whether it is one.
func number(v reflect.Value, text string) bool {
	text = strings.ReplaceAll(text, "_", "")
	switch v.Kind() {
	case reflect.Float64:
		f, err := strconv.ParseFloat(text, 64)
		v.SetFloat(f)
		return err == nil
	case reflect.Uint16:
		i, err := strconv.ParseUint(text, 10, 16)
		v.SetUint(i)
		return err == nil
	}
	i, err := strconv.ParseInt(text, 10, v.Type().Bits())
	v.SetInt(i)
	return err == nil
}

// fields reads a struct.
func (d *decoder) fields(entries []entry, v reflect.Value, path string) {
	all := fieldsOf(v.Type())
	for _, e := range entries {
		i := slices.IndexFunc(all, func(f reflect.StructField) bool { return fieldName(f.Name) == e.key })
		if i < 0 {
			d.marred = append(d.marred, join(path, e.key))
			_, isScalar := scalar(e.value)
			named := slices.ContainsFunc(entries, func(e entry) bool { return e.key == "name" })
			d.lost = d.lost || path == "" && !isScalar || namedItem.MatchString(path) && !named
			d.noteFault(e.at, path, "unknown field %q", e.key)
			continue
		}
		d.value(e.value, v.FieldByIndex(all[i].Index), join(path, e.key))
	}
}

// fieldsOf returns the fields of a struct that a file may have.
func fieldsOf(t reflect.Type) (all []reflect.StructField) {
	for _, f := range reflect.VisibleFields(t) {
		owner := t
		if n := len(f.Index); n > 1 {
			owner = t.FieldByIndex(f.Index[:n-1]).Type
		}
		if g, ok := t.FieldByName(f.Name); !ok || !slices.Equal(g.Index, f.Index) {
			continue // another field has precedence
		}
		if f.IsExported() && !f.Anonymous && !slices.Contains(programOnly[owner], f.Name) {
			all = append(all, f)
		}
	}
	return all
}

// fieldName is the name of a field in a file: that in Go with the first word
// in lower case.
func fieldName(name string) string {
	if rest, ok := strings.CutPrefix(name, "IPv"); ok {
		return "ipv" + rest
	}
	upper := strings.IndexFunc(name, func(r rune) bool { return !unicode.IsUpper(r) })
	switch {
	case upper < 0:
		upper = len(name)
	case upper > 1:
		upper-- // the last capital begins the next word
	}
	return strings.ToLower(name[:upper]) + name[upper:]
}

// An entry is one of a mapping.
type entry struct {
	at    ast.Node
	key   string
	value ast.Node
}

// entries returns the entries of a mapping, those that are merged into it last
// unless it has them itself; false if n is none.
func (d *decoder) entries(n ast.Node, path string) (all []entry, ok bool) {
	var list []*ast.MappingValueNode
	switch m := n.(type) {
	case *ast.MappingNode:
		list = m.Values
	case *ast.MappingValueNode:
		list = []*ast.MappingValueNode{m}
	default:
		return nil, false
	}
	var merged []entry
	for _, item := range list {
		if item.Key.IsMergeKey() {
			merged = append(merged, d.merged(item.Value, path)...)
			continue
		}
		key, ok := scalar(item.Key)
		if !ok {
			d.fault(item.Key, path, "want a text for a key, not %s", kind(item.Key))
			continue
		}
		all = append(all, entry{item.Key, key, item.Value})
	}
	for _, e := range merged {
		if !slices.ContainsFunc(all, func(o entry) bool { return o.key == e.key }) {
			all = append(all, e)
		}
	}
	return all, true
}

// merged returns the entries that "<<: n" means.
func (d *decoder) merged(n ast.Node, path string) (all []entry) {
	d.depth++
	defer func() { d.depth-- }()
	if n = d.resolved(n, path); n == nil {
		return nil
	}
	if list, ok := n.(*ast.SequenceNode); ok {
		for _, item := range list.Values {
			all = append(all, d.merged(item, path)...)
		}
		return all
	}
	if d.depth > maxDepth {
		d.fault(n, path, "deeper than %d levels", maxDepth)
		return nil
	}
	all, ok := d.entries(n, path)
	if !ok {
		d.fault(n, path, "want a mapping to merge, not %s", kind(n))
	}
	return all
}

// scalar returns the text of a node as it stands in the file.
func scalar(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	case *ast.MappingKeyNode:
		return scalar(n.Value)
	}
	return "", false
}

// kind tells what a node is.
func kind(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	}
	text, _ := scalar(n)
	return strconv.Quote(text)
}

// pairs are the entries of a mapping in the order of the file.
type pairs []policy.StringEntry

func (p *pairs) read(d *decoder, n ast.Node, path string) {
	entries, ok := d.entries(n, path)
	if !ok {
		d.fault(n, path, "want a mapping, not %s", kind(n))
	}
	*p = pairs{}
	for _, e := range entries {
		var value string
		d.value(e.value, reflect.ValueOf(&value).Elem(), join(path, e.key))
		*p = append(*p, policy.StringEntry{Key: e.key, Value: value})
	}
}
