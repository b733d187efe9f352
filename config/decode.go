package config

import (
	"cmp"
	"context"
	"encoding"
	"fmt"
	"net/http"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/persistence/redisstore"
	"github.com/limpetlb/limpet/policy"
)

// A configuration file is read into the structs of the library themselves, so
// that whatever they can say can be written in a file:
//
//   - a field has its name in Go, the first word in lower case (fielderr.Name);
//     the fields of an embedded struct stand beside those of the outer one,
//     which has precedence;
//   - a constant is written as its MarshalText method says it; case, spaces and
//     hyphens do not matter, so the name of most in Go is good as well;
//   - where Go has an interface, the file has a mapping with one key, the name
//     of a type in unions, or that name alone.
//
// programOnly lists the fields that only a program can give. A struct of this
// package takes the place of one that refers to objects, such as pools, and
// names them.

// unions are the types that each interface can have. Those that are pointers
// here are stored by pointer.
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
	reflect.TypeFor[authentication](): {reflect.TypeFor[basic](), reflect.TypeFor[bearer]()},
	reflect.TypeFor[finder]():         {reflect.TypeFor[*dns](), reflect.TypeFor[*ipGroup]()},
	reflect.TypeFor[sessionProfile](): {reflect.TypeFor[clientIP](), reflect.TypeFor[appCookie](), reflect.TypeFor[httpCookie](), reflect.TypeFor[customHeader]()},
}

// secrets are the types of texts that errors must not show.
var secrets = []reflect.Type{reflect.TypeFor[secret](), reflect.TypeFor[redisstore.Secret](), reflect.TypeFor[keySecret]()}

// sameSites are constants of net/http, which have no text there.
var sameSites = map[string]http.SameSite{
	"lax": http.SameSiteLaxMode, "strict": http.SameSiteStrictMode, "none": http.SameSiteNoneMode, "default": http.SameSiteDefaultMode,
}

// A spot is a value of a file.
type spot struct {
	place
	node   *yaml.Node
	secret bool // errors must not show it
}

// maxSpots bounds how many values keep their places; what is in one that has
// none gets the place of what contains it.
const maxSpots = 200_000

// A decoder fills in values from the nodes of sources.
type decoder struct {
	*findings
	ctx      context.Context
	tree     *tree
	files    files
	src      *source          // of the value that is read
	included []string         // patterns
	given    map[string]place // the keys at the top
	noKeys   bool             // see CheckOptions
	alone    bool             // no program adds anything to the file
	outputs  bool             // of File
	ofBytes  bool             // whether the field that is read is a number of bytes
	accepted []string         // the words that the field that is read accepts; nil if all of its type
	noZero   string           // what to write instead of 0 in the field that is read; empty if 0 is good
	warnings report
	ticks    int

	layout
}

// A layout is where everything stands.
type layout struct {
	first  *source
	spots  map[string]spot   // by path in Go, such as httpSecurity[0].action.status
	chosen map[string]string // the type in a union, by its path
	hidden map[string]string // values that errors must not show, and what they show instead
	taken  map[string]taken  // by path

	matched []string // the files that the patterns of includes have matched
}

// A taken value is one that does not stand in the file.
type taken struct{ from, text string }

// findings are the faults of the stages that make something of a file.
type findings struct {
	report
	marred  map[string]bool // paths with faults of earlier stages
	above   map[string]bool // what these stand in
	pending []string        // paths with faults of this stage
	strange map[string]bool // paths of mappings with unknown keys: what they lack may be there
	lost    bool            // so much is missing that whatever refers to it would be reported, too
	missing map[missingName]*missingFault
}

func newFindings() *findings {
	return &findings{marred: map[string]bool{}, above: map[string]bool{}, strange: map[string]bool{}, missing: map[missingName]*missingFault{}}
}

func newDecoder(ctx context.Context, files files) *decoder {
	d := &decoder{
		findings: newFindings(), ctx: ctx, files: files,
		layout: layout{spots: map[string]spot{}, chosen: map[string]string{}, hidden: map[string]string{}, taken: map[string]taken{}},
	}
	d.tree = &tree{ctx: ctx, faults: d.note, entries: map[*yaml.Node][]entry{}, sizes: map[*yaml.Node]size{}}
	return d
}

// nextStage begins a stage, such as to build what was read. Faults at places
// where an earlier stage has found one are not reported again.
func (f *findings) nextStage() {
	for _, path := range f.pending {
		f.marred[path] = true
		for ; path != ""; path = outer(path) {
			f.above[path] = true
		}
	}
	f.pending = nil
}

// hides reports whether an earlier stage has found a fault at a path, in what
// it stands in, or in what stands there.
func (f *findings) hides(path string) bool {
	if f.above[path] {
		return true
	}
	for ; path != ""; path = outer(path) {
		if f.marred[path] {
			return true
		}
	}
	return false
}

// outer is the path of what a path stands in.
func outer(path string) string { return path[:max(0, strings.LastIndexAny(path, ".["))] }

// mar notes that there is a fault at a path.
func (f *findings) mar(path string) {
	if path != "" && len(f.pending) < maxKept {
		f.pending = append(f.pending, path)
	}
}

// note adds a fault at a path of its own.
func (d *decoder) note(f *fault) {
	d.mar(f.path)
	d.lost = d.lost || f.fatal || f.path == "" || namedItem.MatchString(strings.TrimSuffix(f.path, ".name"))
	f.path = d.shown(f.path)
	d.add(f)
}

// namedItem is the path of a list whose items others refer to by name, or of
// an item.
var namedItem = regexp.MustCompile(`^(services\[\d+\]\.)?(services|listeners|acme|stores|pools|poolGroups|geo|ipGroups|stringGroups|scripts|rateLimiters|persistenceProfiles|keySets)(\[\d+\])?$`)

// fault notes what is wrong with n, which stands at a path.
func (d *decoder) fault(n *yaml.Node, path, format string, args ...any) *fault {
	f := &fault{place: d.placeOf(n), path: path, err: fmt.Errorf(format, args...)}
	d.note(f)
	return f
}

// misfit notes that a scalar cannot be read. Unless it may be shown, the error
// does not say more.
func (d *decoder) misfit(s scalar, path string, err error, among func() []string) {
	f := &fault{place: d.placeOf(s.node), path: path, err: err, value: s.text, typed: s.text, among: among}
	if s.from != "" {
		f.err, f.value, f.among = fmt.Errorf("the content of %s does not fit here", s.from), nil, nil
	}
	d.note(f)
}

func (d *decoder) placeOf(n *yaml.Node) place { return place{d.src, n.Line, n.Column} }

// shown is a path as it is in the file, with the types in unions:
// httpSecurity[0].action.respond.status.
func (l *layout) shown(path string) string {
	var b strings.Builder
	for i, c := range path {
		if c == '.' {
			if name := l.chosen[path[:i]]; name != "" {
				b.WriteString("." + name)
			}
		}
		b.WriteRune(c)
	}
	return b.String()
}

// join joins a path and a key, quoted if it could be mistaken for something
// else.
func join(path, key string) string {
	if !plainKey.MatchString(key) {
		key = quoted(key)
	}
	return fielderr.Join(path, key)
}

// keyed is the path of a key whose text may be any; see [fielderr.Key].
func keyed(path, key string) string { return path + "[" + quoted(key) + "]" }

var plainKey = regexp.MustCompile(`^([A-Za-z_][0-9A-Za-z_-]{0,63}|<<)$`)

// nearest returns the spot of a path, or of what contains it.
func (l *layout) nearest(path string) (at spot, exact bool) {
	for exact = true; path != ""; path, exact = outer(path), false {
		if at, ok := l.spots[path]; ok {
			return at, exact
		}
	}
	return spot{}, false
}

// dir is the directory of the file in which a path stands.
func (l *layout) dir(path string) string {
	if at, _ := l.nearest(path); at.source != nil {
		return at.dir
	}
	return l.first.dir
}

// resolved returns what n stands for; nil if that is nothing.
func (d *decoder) resolved(n *yaml.Node, path string) *yaml.Node {
	if n.Style&yaml.TaggedStyle != 0 {
		d.fault(n, path, "the tag %s cannot be used", strings.Trim(quoted(n.Tag), `"`))
		return nil
	}
	if n.Kind == yaml.AliasNode {
		return d.resolved(n.Alias, path)
	}
	if isNull(n) {
		return nil
	}
	return n
}

// value reads n into v. A null is as good as nothing.
func (d *decoder) value(n *yaml.Node, v reflect.Value, path string) {
	if d.ticks++; d.ticks%1024 == 0 && d.ctx.Err() != nil {
		d.lost = true
	}
	if d.lost && d.ctx.Err() != nil {
		return
	}
	if len(d.spots) < maxSpots {
		d.spots[path] = spot{d.placeOf(n), n, slices.Contains(secrets, v.Type())}
	}
	if n = d.resolved(n, path); n != nil && !d.special(n, v, path) {
		d.plain(n, v, path)
	}
}

// special reads types that have a form of their own, and reports whether this
// is one.
func (d *decoder) special(n *yaml.Node, v reflect.Value, path string) bool {
	set := func(parse func(text string) error, among func() []string) bool {
		if s := d.scalar(n, path); s.node == nil {
			d.fault(n, path, "want a text, not %s", kindOf(v, n))
		} else if !s.bad {
			if err := parse(s.text); err != nil {
				d.misfit(s, path, err, among)
			}
		}
		return true
	}
	hide := func(text string) string {
		if d.hidden[text] == "" {
			d.hidden[text] = "secret"
		}
		return text
	}
	switch p := v.Addr().Interface().(type) {
	case *pairs:
		p.read(d, n, path)
		return true
	case choice:
		d.choice(n, p, path)
		return true
	case *profileChoice:
		p.read(d, n, path)
		return true
	case *addresses:
		p.read(d, n, path)
		return true
	case *time.Duration:
		return set(func(text string) (err error) {
			if *p, err = time.ParseDuration(text); err != nil {
				err = durationHint(text)
			}
			return err
		}, nil)
	case *[]byte:
		return set(func(text string) error { *p = append([]byte{}, text...); return nil }, nil)
	case *secret:
		return set(func(text string) error {
			d.hidden[text] = "secret"
			if err := p.UnmarshalText([]byte(text)); err != nil {
				d.fault(n, path, "%w", err)
			}
			return nil
		}, nil)
	case *redisstore.Secret:
		return set(func(text string) error { *p = redisstore.Secret(hide(text)); return nil }, nil)
	case *keySecret:
		return set(func(text string) error { *p = keySecret(hide(text)); return nil }, nil)
	case *http.SameSite:
		return set(func(text string) error {
			var ok bool
			if *p, ok = sameSites[strings.ToLower(strings.TrimSpace(text))]; !ok {
				return fmt.Errorf("%q is not one of default, lax, none, strict", text)
			}
			return nil
		}, func() []string { return []string{"default", "lax", "none", "strict"} })
	case encoding.TextUnmarshaler:
		if list := d.accepted; list != nil {
			return set(func(text string) error { return cmp.Or(among(text, list), p.UnmarshalText([]byte(text))) }, func() []string { return list })
		}
		return set(func(text string) error { return p.UnmarshalText([]byte(text)) }, func() []string { return words(v.Type()) })
	}
	if types := unions[v.Type()]; types != nil {
		d.union(n, v, path, types)
		return true
	}
	return false
}

// words are the names of the constants of a type; none if it has no constants.
func words(t reflect.Type) (all []string) {
	if t.Kind() != reflect.Uint8 || !t.Implements(reflect.TypeFor[encoding.TextMarshaler]()) {
		return nil
	}
	for i := range 256 {
		c := reflect.New(t).Elem()
		c.SetUint(uint64(i))
		if text, err := c.Interface().(encoding.TextMarshaler).MarshalText(); err == nil {
			all = append(all, string(text))
		}
	}
	return all
}

// union reads one of several types into an interface.
func (d *decoder) union(n *yaml.Node, v reflect.Value, path string, types []reflect.Type) {
	all := typeNames(types)
	s := d.scalar(n, path)
	if s.bad {
		return
	}
	name, at := s.text, s.node
	var content *yaml.Node
	if s.node == nil {
		entries, ok := d.mapping(n)
		if !ok || len(entries) != 1 {
			d.fault(n, path, "want one of %s, not %s", strings.Join(all, ", "), kind(n))
			return
		}
		name, at, content = entries[0].key, entries[0].at, entries[0].value
	}
	i := slices.Index(all, name)
	if i < 0 {
		if s.node == nil {
			s = scalar{node: at, text: name}
		}
		d.misfit(s, path, fmt.Errorf("%s is not one of %s", quoted(name), strings.Join(all, ", ")), func() []string { return all })
		return
	}
	t, pointer := types[i], types[i].Kind() == reflect.Pointer
	if pointer {
		t = t.Elem()
	}
	if content != nil && (content.Kind == yaml.SequenceNode || content.Kind == yaml.ScalarNode && !isNull(content)) {
		d.fault(content, fielderr.Join(path, name), "want a mapping, not %s", kindOf(reflect.Zero(t), content))
		return
	}
	p := reflect.New(t)
	whole := d.spots[path]
	d.chosen[path] = name
	if content != nil {
		d.value(content, p.Elem(), path) // errors have no word of the type
	}
	d.spots[path] = whole
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
		names[i] = fielderr.Name(strings.TrimSuffix(t.Name(), "Checker"))
	}
	return names
}

// kindOf says what stands where a value of v's type should.
func kindOf(v reflect.Value, n *yaml.Node) string {
	if t := v.Type(); slices.Contains(secrets, t) || t == reflect.TypeFor[cookieKey]() || t == reflect.TypeFor[[]cookieKey]() {
		return "what is there" // it may be the key
	}
	return kind(n)
}

// plain reads what is like the YAML.
func (d *decoder) plain(n *yaml.Node, v reflect.Value, path string) {
	switch v.Kind() {
	case reflect.Struct:
		entries, ok := d.mapping(n)
		if !ok {
			d.fault(n, path, "%w", wantMapping(n, fieldsOf(v.Type()).names(), path, kindOf(v, n)))
			return
		}
		d.fields(entries, v, path)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.value(n, v.Elem(), path)
	case reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			if what := kindOf(v, n); isPlain(n) && what != "what is there" {
				d.fault(n, path, "want a list, such as [%s], not %s", n.Value, what)
				return
			}
			d.fault(n, path, "want a list, not %s", kindOf(v, n))
			return
		}
		d.items(n.Content, v, path)
	case reflect.Map:
		entries, ok := d.mapping(n)
		if !ok {
			d.fault(n, path, "want a mapping, not %s", kindOf(v, n))
			return
		}
		v.Set(reflect.MakeMap(v.Type()))
		for _, e := range entries {
			item := reflect.New(v.Type().Elem()).Elem()
			d.value(e.value, item, keyed(path, e.key))
			v.SetMapIndex(reflect.ValueOf(e.key), item)
		}
	default:
		d.leaf(n, v, path)
	}
}

// items appends the items of a list to those that v has already.
func (d *decoder) items(list []*yaml.Node, v reflect.Value, path string) {
	from := v.Len()
	grown := reflect.MakeSlice(v.Type(), from+len(list), from+len(list))
	reflect.Copy(grown, v)
	v.Set(grown)
	for i, item := range list {
		d.value(item, v.Index(from+i), fielderr.Index(path, from+i))
	}
}

// leaf reads a text, a number or a truth.
func (d *decoder) leaf(n *yaml.Node, v reflect.Value, path string) {
	s := d.scalar(n, path)
	if s.bad {
		return
	}
	var want string
	switch v.Kind() {
	case reflect.String:
		if s.node != nil {
			v.SetString(s.text)
			return
		}
		want = "a text"
	case reflect.Bool:
		truth := strings.ToLower(s.text)
		if s.node != nil && (truth == "true" || truth == "false") && (s.from != "" || s.node.Tag == "!!bool") {
			v.SetBool(truth == "true")
			return
		}
		want = "true or false"
	case reflect.Int, reflect.Int64, reflect.Uint16, reflect.Float64:
		ofBytes := v.CanInt() && d.ofBytes
		text := s.text
		if ofBytes {
			text = inBytes(text)
		}
		if s.node != nil && number(v, text) {
			if v.IsZero() && d.noZero != "" {
				d.misfit(s, path, fmt.Errorf("0 is less than 1; %s", d.noZero), nil)
			}
			return
		}
		switch {
		case ofBytes:
			want = "a number of bytes, such as 65536, 64KiB or 64KB"
		case v.Kind() == reflect.Float64:
			want = "a number"
		case v.Kind() == reflect.Uint16:
			want = "a whole number up to 65535"
		default:
			want = "a whole number"
		}
	default:
		panic(fmt.Sprintf("%s: there is no form for %v", path, v.Type()))
	}
	err := fmt.Errorf("want %s, not %s", want, kind(n))
	if s.node == nil {
		d.note(&fault{place: d.placeOf(n), path: path, err: err})
		return
	}
	d.misfit(s, path, err, nil)
}

// byteUnits are those of 1,024 bytes and of 1,000.
var byteUnits = map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "KB": 1e3, "MB": 1e6, "GB": 1e9}

// numberOfBytes reports whether a field is a number of bytes, which its tag
// says.
func numberOfBytes(f reflect.StructField) bool { return f.Tag.Get("unit") == "bytes" }

// inBytes returns the number of bytes that a text such as "128KiB" is; any
// other text as it is.
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
	for _, e := range entries {
		if f, ok := d.field(e, v.Type(), path, entries); ok {
			d.value(e.value, v.FieldByIndex(f.Index), join(path, fielderr.Name(f.Name)))
		}
	}
}

// field finds the field of an entry, which is read next, and reports if there
// is none.
func (d *decoder) field(e entry, t reflect.Type, path string, entries []entry) (reflect.StructField, bool) {
	f, ok := fieldsOf(t).by[e.key]
	if !ok {
		if now, old := deprecated[t][e.key]; old {
			if f, ok = fieldsOf(t).by[now.key]; ok {
				d.warnings.add(&fault{
					place: d.placeOf(e.at), path: d.shown(join(path, e.key)),
					err: fmt.Errorf("deprecated since %s, ends with %s: write %s", now.since, now.ends, now.key),
				})
				d.ofBytes = numberOfBytes(f)
				return f, true
			}
		}
		hint := ""
		if _, above := fieldsOf(reflect.TypeFor[document]()).by[e.key]; above && t == reflect.TypeFor[serviceConfig]() {
			hint = "; it stands at the top of the file"
			if _, in := fieldsOf(reflect.TypeFor[listenerConfig]()).by[e.key]; in {
				hint = "; it stands in listeners"
			}
		}
		if name := called(e.key, fieldsOf(t).names()); name != "" && hint == "" {
			hint = fmt.Sprintf("; did you mean %q?", name)
		}
		fault := &fault{
			place: d.placeOf(e.at), path: path, err: fmt.Errorf("unknown field %s%s", quoted(e.key), hint), typed: e.key,
			among: func() []string { return fieldsOf(t).names() },
		}
		lost := path == "" && e.value.Kind != yaml.ScalarNode ||
			namedItem.MatchString(path) && !slices.ContainsFunc(entries, func(e entry) bool { return e.key == "name" })
		d.unknown(fault, join(path, e.key), lost)
	}
	d.ofBytes, d.noZero, d.accepted = false, "", nil
	if ok {
		d.ofBytes, d.noZero, d.accepted = numberOfBytes(f), noZero[ownerOf(t, f)][f.Name], acceptedAt(t, f, path)
	}
	return f, ok
}

// unknown notes a fault of a key, which mars the path of the key, but is
// reported with that of its mapping.
func (d *decoder) unknown(f *fault, marred string, lost bool) {
	d.mar(marred)
	if len(d.strange) < maxKept {
		d.strange[f.path] = true
	}
	d.lost = d.lost || lost
	name := d.chosen[f.path]
	if f.path = d.shown(f.path); name != "" {
		f.path += "." + name
	}
	d.add(f)
}

// mapping returns the entries of a mapping; false if n is none.
func (d *decoder) mapping(n *yaml.Node) ([]entry, bool) {
	return d.tree.entries[n], n.Kind == yaml.MappingNode
}

// A scalar is a text, as it is in the file or as it comes from elsewhere.
type scalar struct {
	node *yaml.Node // nil if it is none
	text string
	from string // where it comes from; empty if it stands in the file
	bad  bool   // reported
}

// maxScalarFile bounds a file that has one text, in bytes.
const maxScalarFile = 64 << 10

// scalar returns the text of a node, be it in the file, in the environment or
// in a file of its own.
func (d *decoder) scalar(n *yaml.Node, path string) scalar {
	if n.Kind == yaml.ScalarNode {
		return scalar{node: n, text: n.Value}
	}
	entries, ok := d.mapping(n)
	if !ok || len(entries) == 0 || len(entries) > 2 {
		return scalar{}
	}
	given := map[string]string{}
	for _, e := range entries {
		value := e.value
		if value.Kind == yaml.AliasNode {
			value = value.Alias
		}
		if value.Kind != yaml.ScalarNode {
			return scalar{}
		}
		given[e.key] = value.Value
	}
	s := scalar{node: n}
	env, isEnv := given["env"]
	file, isFile := given["file"]
	other, hasDefault := given["default"]
	switch {
	case d.noKeys && d.spots[path].secret && (isEnv || isFile):
		if isFile {
			d.files.touch(d.files.where(d.src.dir, file))
		}
		return scalar{node: n, text: standInSecret(path)}
	case isEnv && (len(given) == 1 || hasDefault):
		s.from = "the environment variable " + quoted(env)
		if s.text, ok = os.LookupEnv(env); !ok && hasDefault {
			return scalar{node: n, text: other}
		} else if !ok {
			d.fault(n, path, "%s is not set, and there is no default", s.from)
			s.bad = true
		}
	case isFile && len(given) == 1:
		s.from = "the file " + quoted(file)
		text, err := d.files.read(d.src.dir, file, maxScalarFile)
		if err != nil {
			d.fault(n, path, "%w", err)
			s.bad = true
		}
		s.text = strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	default:
		return scalar{}
	}
	d.hidden[s.text] = s.from
	if at, ok := d.spots[path]; ok {
		at.secret = true
		d.spots[path] = at
		d.taken[path] = taken{s.from, s.text}
	}
	return s
}

// pairs are the entries of a mapping in the order of the file.
type pairs []policy.StringEntry

func (p *pairs) read(d *decoder, n *yaml.Node, path string) {
	entries, ok := d.mapping(n)
	if !ok {
		d.fault(n, path, "want a mapping, not %s", kind(n))
	}
	*p = pairs{}
	for _, e := range entries {
		var value string
		d.value(e.value, reflect.ValueOf(&value).Elem(), keyed(path, e.key))
		*p = append(*p, policy.StringEntry{Key: e.key, Value: value})
	}
}
