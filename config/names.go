package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/fielderr"
)

// The names of objects in scripts are compared with what each service has that
// runs them: a call with another name would fail every request.

// Kinds of objects, as [datascript.Reference] has them.
const (
	poolKind        = "pool"
	poolGroupKind   = "pool group"
	ipGroupKind     = "IP group"
	stringGroupKind = "string group"
	limiterKind     = "rate limiter"
	keySetKind      = "key set"
)

// A namedObject is what a name stands for.
type namedObject struct{ kind, name string }

// A scriptOrigin is where a script comes from.
type scriptOrigin struct {
	source   *source  // nil if it is the program's
	external []string // names that the service need not have
}

// scriptOrder puts scripts after the sources of a configuration.
const scriptOrder = 1 << 20

// scriptFaults notes the faults of a script, which stands in a source and is
// named at a path.
func (b *builder) scriptFaults(err error, path string, src *source) {
	if err == nil {
		return
	}
	for _, err := range fielderr.Leaves(err) {
		if in, ok := err.(*datascript.CompileError); ok && in.Line > 0 { //nolint:errorlint // as Compile returns it
			b.mar(fielderr.Join(b.prefix, path))
			b.add(&fault{place: place{source: src, line: in.Line}, err: in})
		} else {
			b.fault(err, "%s", path)
		}
	}
}

// checkNames notes the names in scripts of objects that a service does not
// have. One that has a fault counts as there.
func (b *builder) checkNames(cfg *limpet.Config) {
	has := &objects{Config: cfg, keySets: slices.Collect(maps.Keys(b.keyNames))}
	if b.shared != nil {
		has.keySets = slices.AppendSeq(has.keySets, maps.Keys(b.shared.keyNames))
	}
	for _, script := range cfg.Scripts {
		if script.Script == nil {
			continue
		}
		origin := b.origins[script.Script]
		for _, r := range script.References() {
			if !has.named(r.Kind, r.Name) && !b.excuses(r, has) && !slices.Contains(origin.external, r.Name) {
				b.miss(r, script.Name(), origin.source, has)
			}
		}
	}
}

// excuses reports whether an object may be missing because of a fault, which is
// reported.
func (b *builder) excuses(r datascript.Reference, has *objects) bool {
	switch r.Kind {
	case poolKind, poolGroupKind:
		inService := b.prefix != "" && (b.above[b.prefix+".pools"] || b.above[b.prefix+".poolGroups"])
		return inService || b.broken[namedObject{poolGroupKind, r.Name}]
	case stringGroupKind:
		return has.StringGroups == nil && b.above["stringGroups"]
	case keySetKind:
		return slices.Contains(has.keySets, r.Name)
	}
	return b.broken[namedObject{r.Kind, r.Name}]
}

// objects are those of a service.
type objects struct {
	*limpet.Config
	pools, groups map[string]bool // by name; nil until somebody asks for one
	keySets       []string        // the names of those of the file
}

// named reports whether there is an object of a kind with a name.
func (o *objects) named(kind, name string) (ok bool) {
	switch kind {
	case poolKind:
		o.collect()
		return o.pools[name] || o.groups[name]
	case poolGroupKind:
		o.collect()
		return o.groups[name]
	case ipGroupKind:
		if o.IPGroups != nil {
			_, ok = o.IPGroups.Group(name)
		}
	case stringGroupKind:
		if o.StringGroups != nil {
			_, ok = o.StringGroups.Group(name)
		}
	case limiterKind:
		return o.RateLimiters[name] != nil
	case keySetKind:
		return hasKeySet(o.Config, name)
	}
	return ok
}

func (o *objects) collect() {
	if o.pools != nil {
		return
	}
	o.pools, o.groups = map[string]bool{}, map[string]bool{}
	for _, p := range o.Pools {
		o.pools[p.Name()] = true
	}
	for _, g := range o.PoolGroups {
		o.groups[g.Name()] = true
	}
}

// names are the names of the objects of a kind.
func (o *objects) names(kind string) (names []string) {
	switch kind {
	case poolKind:
		names = slices.AppendSeq(slices.Collect(maps.Keys(o.pools)), maps.Keys(o.groups))
	case poolGroupKind:
		names = slices.Collect(maps.Keys(o.groups))
	case ipGroupKind:
		if o.IPGroups != nil {
			names = o.IPGroups.Names()
		}
	case stringGroupKind:
		if o.StringGroups != nil {
			names = o.StringGroups.Names()
		}
	case limiterKind:
		names = slices.Collect(maps.Keys(o.RateLimiters))
	case keySetKind:
		names = o.keySets
	}
	return names
}

// hasKeySet asks for a key set by a token that is none: an error means that
// there is no such set.
func hasKeySet(cfg *limpet.Config, name string) bool {
	if cfg.Tokens == nil {
		return false
	}
	_, _, _, err := cfg.Tokens.VerifyToken(datascript.TokenCheck{KeySet: name})
	return err == nil
}

// A missingName is a name in a script of an object that a service does not
// have.
type missingName struct {
	namedObject
	script string
	file   string // empty if the script is the program's
	line   int
}

// A missingFault is the fault of a name, in all services that do not have the
// object.
type missingFault struct {
	missingName
	services []string // nil if the file has only one
}

// Error names the object, and the services.
func (m *missingFault) Error() string {
	text := fmt.Sprintf("%s %s not found", m.kind, fielderr.Quote(m.name))
	if m.file == "" {
		text = fmt.Sprintf("script %s, line %d: %s", fielderr.Quote(m.script), m.line, text)
	}
	const shown = 3
	switch n := len(m.services); {
	case n == 1:
		text += " in service " + fielderr.Quote(m.services[0])
	case n > 1:
		var names []string
		for _, name := range m.services[:min(n, shown)] {
			names = append(names, fielderr.Quote(name))
		}
		text += " in services " + strings.Join(names, ", ")
		if n > shown {
			text += fmt.Sprintf(" and %d more", n-shown)
		}
	}
	return text
}

// miss notes that a name in a script is none of those that the service has.
func (b *builder) miss(r datascript.Reference, script string, src *source, has *objects) {
	key := missingName{namedObject: namedObject{r.Kind, r.Name}, script: script, line: r.Line}
	if src != nil {
		key.file = src.name
	}
	m := b.missing[key]
	if m == nil {
		m = &missingFault{missingName: key}
		b.missing[key] = m
		f := &fault{place: place{source: src, line: r.Line}, err: m, typed: r.Name, among: func() []string { return has.names(r.Kind) }}
		if src == nil {
			f.place = place{source: b.file.first}
		}
		b.add(f)
	}
	if b.prefix != "" {
		m.services = append(m.services, b.cfg.Name)
	}
}
