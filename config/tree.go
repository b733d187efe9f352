package config

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"github.com/limpetlb/limpet/internal/fielderr"
)

// The bounds of a configuration. Those of nodes apply after aliases and merges
// have been replaced by what they stand for.
const (
	maxFile   = 8 << 20  // bytes of one file
	maxFiles  = 32 << 20 // bytes of all files
	maxDepth  = 64       // of nodes within nodes
	maxNodes  = 1_000_000
	maxGrowth = 100     // times the nodes that are written
	maxMerged = 100_000 // keys
	maxTags   = 100     // %TAG directives
)

// A source is one of the files that a configuration is written in.
type source struct {
	name  string // as errors show it
	dir   string // files that it names are relative to it
	order int    // of the sources
	root  *yaml.Node
}

// A place is where something stands.
type place struct {
	*source
	line, column int
}

// An entry is one of a mapping.
type entry struct {
	key   string
	at    *yaml.Node // the key
	value *yaml.Node
}

// A tree is the nodes of all sources, checked: there are no cycles, and no more
// nodes than the bounds allow.
type tree struct {
	ctx     context.Context
	src     *source
	faults  func(f *fault)
	entries map[*yaml.Node][]entry // of mappings, merges included
	sizes   map[*yaml.Node]size    // of what has an anchor
	path    []step
	written int // nodes
	whole   int // nodes, with aliases and merges
	copied  int // what merges have looked at
	ticks   int
}

// A size is how much a node contains, aliases included.
type size struct{ nodes, height int }

// A step leads from a node to one in it: by key, or by index if there is no
// key.
type step struct {
	key   string
	index int
}

// errStop ends the walk over a tree that is too large.
var errStop = errors.New("stop")

// parse reads the text of a source into nodes. It returns an error only if ctx
// has ended; faults are reported.
func (t *tree) parse(src *source, text []byte) error {
	t.src = src
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	if bytes.HasPrefix(text, []byte("%YAML 1.")) {
		text = append([]byte("#"), text[1:]...) // the parser knows 1.1 only, and reads 1.2
	}
	if bytes.Count(text, []byte("%TAG")) > maxTags { // each costs a look at all others
		t.faults(&fault{place: place{t.src, 1, 1}, err: errors.New("too many tag directives"), fatal: true})
		return nil
	}
	l, err := yaml.NewLoader(&interruptible{t.ctx, bytes.NewReader(text)}, yaml.WithPlugin(parserLimits{}))
	if err != nil {
		return err
	}
	for {
		var doc yaml.Node
		err := l.Load(&doc)
		if t.ctx.Err() != nil {
			return context.Cause(t.ctx)
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			t.syntax(text, err)
			return nil
		}
		body := &doc
		if doc.Kind == yaml.DocumentNode {
			body = doc.Content[0]
		}
		switch {
		case isNull(body):
		case src.root == nil:
			src.root = body
		default:
			t.faults(&fault{place: t.placeOf(body), err: errors.New("a second document")})
			return nil
		}
	}
}

// interruptible is a reader that ends with its context.
type interruptible struct {
	ctx context.Context
	r   io.Reader
}

// Read implements [io.Reader].
func (i *interruptible) Read(p []byte) (int, error) {
	if err := i.ctx.Err(); err != nil {
		return 0, err
	}
	return i.r.Read(p)
}

// parserLimits bounds what the parser stores; the walk measures exactly.
type parserLimits struct{}

// CheckDepth implements [yaml.LoaderLimitsPlugin].
func (parserLimits) CheckDepth(depth int, _ *yaml.DepthContext) error {
	if depth > maxDepth {
		return errDepth
	}
	return nil
}

// CheckAlias implements [yaml.LoaderLimitsPlugin]. Nothing is constructed.
func (parserLimits) CheckAlias(int, int) error { return nil }

var errDepth = fmt.Errorf("deeper than %d levels", maxDepth)

// syntax reports that a text is not YAML.
func (t *tree) syntax(text []byte, err error) {
	at := place{source: t.src}
	if e := (*yaml.LoadError)(nil); errors.As(err, &e) {
		at.line, at.column = e.Mark.Line, e.Mark.Column
		err = errors.New(e.Message)
		if e.ContextMsg != "" && e.Message != errDepth.Error() {
			err = fmt.Errorf("%s: %s", e.ContextMsg, e.Message)
			if e.ContextMark.Line != 0 && e.ContextMark != e.Mark {
				err = fmt.Errorf("%s at %d:%d: %s", e.ContextMsg, e.ContextMark.Line, e.ContextMark.Column, e.Message)
			}
		}
	}
	if at.line == 0 {
		at.line, at.column = firstOdd(text)
	}
	if lines := bytes.Split(text, []byte("\n")); at.line > 0 && at.line <= len(lines) {
		err = errors.New(syntaxHint(err.Error(), string(lines[at.line-1])))
	}
	t.faults(&fault{place: at, err: err, fatal: true})
}

// firstOdd returns the place of the first character that YAML does not allow;
// 0 if there is none.
func firstOdd(text []byte) (line, column int) {
	line, column = 1, 1
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		switch {
		case r == utf8.RuneError && n == 1, r < ' ' && r != '\t' && r != '\n' && r != '\r', r >= 0x7f && r < 0xa0 && r != 0x85, r == 0xfffe, r == 0xffff:
			return line, column
		case r == '\n':
			line, column = line+1, 0
		}
		column++
		text = text[n:]
	}
	return 0, 0
}

// check walks over the nodes of a source: it measures them, finds the entries
// of mappings, and takes out aliases of themselves. An error means that there
// are too many nodes, which is reported, or that ctx has ended.
func (t *tree) check(src *source) error {
	if src.root == nil {
		return nil
	}
	t.src, t.path = src, t.path[:0]
	s, err := t.measure(src.root, 1)
	if err != nil {
		return err
	}
	t.whole += s.nodes
	switch {
	case t.whole > maxNodes:
		t.fatal(src.root, errNodes)
	case t.whole > maxGrowth*t.written:
		t.fatal(src.root, fmt.Errorf("aliases make %d values of %d, more than %d times as many", t.whole, t.written, maxGrowth))
	default:
		return nil
	}
	return errStop
}

var errNodes = fmt.Errorf("more than %d values, aliases included", maxNodes)

// measure returns the size of n, which is so deep in the file.
func (t *tree) measure(n *yaml.Node, depth int) (size, error) {
	if t.ticks++; t.ticks%1024 == 0 && t.ctx.Err() != nil {
		return size{}, context.Cause(t.ctx)
	}
	if n.Kind == yaml.AliasNode {
		s, ok := t.sizes[n.Alias]
		if !ok { // it stands in what it stands for
			t.fault(n, errors.New("an alias of itself"))
			*n = yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Line: n.Line, Column: n.Column}
			s = size{1, 1}
		}
		return s, t.bounded(n, s, depth)
	}
	s := size{1, 1}
	add := func(child *yaml.Node, by step) error {
		t.path = append(t.path, by)
		inner, err := t.measure(child, depth+1)
		t.path = t.path[:len(t.path)-1]
		s = size{min(s.nodes+inner.nodes, maxNodes+1), max(s.height, inner.height+1)}
		return err
	}
	t.written++
	if depth > maxDepth {
		t.fatal(n, errDepth)
		return s, errStop
	}
	switch n.Kind {
	case yaml.SequenceNode:
		for i, item := range n.Content {
			if err := add(item, step{"", i}); err != nil {
				return s, err
			}
		}
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			if key.Kind != yaml.ScalarNode {
				if err := add(key, step{key: "?"}); err != nil {
					return s, err
				}
			} else {
				t.written++
				s.nodes++
				t.note(key, size{1, 1})
			}
			before := s
			if err := add(n.Content[i+1], step{key: key.Value}); err != nil {
				return s, err
			}
			if isMerge(key) {
				s.nodes = before.nodes // its entries are added below
			}
		}
		all, merged, err := t.mapping(n)
		if err != nil {
			return s, err
		}
		t.entries[n] = all
		for _, e := range merged {
			s.nodes = min(s.nodes+1+t.sizeOf(e.value).nodes, maxNodes+1)
			s.height = max(s.height, t.sizeOf(e.value).height+1)
		}
	}
	t.note(n, s)
	return s, t.bounded(n, s, depth)
}

// note keeps the size of what aliases can stand for.
func (t *tree) note(n *yaml.Node, s size) {
	if n.Anchor != "" {
		t.sizes[n] = s
	}
}

// sizeOf returns the size of a node that has been measured, which is noted for
// nodes with an anchor only.
func (t *tree) sizeOf(n *yaml.Node) size {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if s, ok := t.sizes[n]; ok {
		return s
	}
	s := size{1, 1}
	for _, child := range n.Content {
		inner := t.sizeOf(child)
		s = size{min(s.nodes+inner.nodes, maxNodes+1), max(s.height, inner.height+1)}
	}
	t.sizes[n] = s
	return s
}

// bounded reports a node that is too deep, or with which there are too many.
func (t *tree) bounded(n *yaml.Node, s size, depth int) error {
	switch {
	case depth+s.height-1 > maxDepth:
		t.fatal(n, errDepth)
	case s.nodes > maxNodes || t.written > maxNodes:
		t.fatal(n, errNodes)
	default:
		return nil
	}
	return errStop
}

// mapping returns the entries of a mapping, the merged ones last, and these
// alone as well.
func (t *tree) mapping(n *yaml.Node) (all, merged []entry, err error) {
	seen := make(map[string]*yaml.Node, len(n.Content)/2)
	all = make([]entry, 0, len(n.Content)/2)
	var merges []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind == yaml.AliasNode {
			key = &yaml.Node{Kind: key.Alias.Kind, Tag: key.Alias.Tag, Value: key.Alias.Value, Line: key.Line, Column: key.Column}
		}
		switch first := seen[key.Value]; {
		case isMerge(key):
			merges = append(merges, value)
		case key.Kind != yaml.ScalarNode || isNull(key):
			t.fault(key, fmt.Errorf("want a text for a key, not %s", kind(key)))
		case first != nil:
			t.path = append(t.path, step{key: key.Value})
			t.fault(key, fmt.Errorf("a second key, after that at %d:%d", first.Line, first.Column))
			t.path = t.path[:len(t.path)-1]
		default:
			seen[key.Value] = key
			all = append(all, entry{key.Value, key, value})
		}
	}
	own := len(all)
	for _, value := range merges {
		if all, err = t.merge(value, seen, all); err != nil {
			return nil, nil, err
		}
	}
	return all, all[own:], nil
}

// merge appends the entries that "<<: n" means to all, without those that seen
// has already.
func (t *tree) merge(n *yaml.Node, seen map[string]*yaml.Node, all []entry) ([]entry, error) {
	at := n
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if t.copied++; t.copied > maxMerged {
		t.fatal(at, errMerges)
		return nil, errStop
	}
	switch {
	case isNull(n):
		return all, nil
	case n.Kind == yaml.SequenceNode:
		for _, item := range n.Content {
			var err error
			if all, err = t.merge(item, seen, all); err != nil {
				return nil, err
			}
		}
		return all, nil
	case n.Kind != yaml.MappingNode:
		t.fault(at, fmt.Errorf("want a mapping to merge, not %s", kind(n)))
		return all, nil
	}
	for _, e := range t.entries[n] {
		if t.copied++; t.copied > maxMerged {
			t.fatal(at, errMerges)
			return nil, errStop
		}
		if seen[e.key] == nil {
			seen[e.key] = e.at
			all = append(all, e)
		}
	}
	return all, nil
}

var errMerges = fmt.Errorf("more than %d merged keys", maxMerged)

// fault reports what is wrong with n, where the walk is.
func (t *tree) fault(n *yaml.Node, err error) {
	t.faults(&fault{place: t.placeOf(n), path: t.where(), err: err})
}

// fatal reports what ends the walk.
func (t *tree) fatal(n *yaml.Node, err error) {
	t.faults(&fault{place: t.placeOf(n), path: t.where(), err: err, fatal: true})
}

// where is the path of the walk.
func (t *tree) where() (path string) {
	for _, s := range t.path {
		if s.key == "" {
			path = fielderr.Index(path, s.index)
		} else {
			path = join(path, s.key)
		}
	}
	return path
}

func (t *tree) placeOf(n *yaml.Node) place { return place{t.src, n.Line, n.Column} }

// isNull reports whether n stands for nothing.
func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// isMerge reports whether n is the key "<<".
func isMerge(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Value == "<<" && n.Style&^yaml.TaggedStyle == 0
}

// kind says what a node is.
func kind(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.AliasNode:
		return kind(n.Alias)
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case isNull(n):
		return "nothing"
	}
	return quoted(n.Value)
}
