package config

import (
	"fmt"
	"reflect"
	"slices"

	"go.yaml.in/yaml/v4"

	"github.com/limpetlb/limpet/internal/fielderr"
)

// An item of a list of a service is the name of an object that services share,
// or an object of its own: a private one, which other services do not see.
type item[T any] struct {
	name string
	own  *T // nil for a name
}

// A choice is an item of any type.
type choice interface {
	// parts returns where a name goes, and makes space for a private object.
	parts() (name *string, own func() any)
}

func (i *item[T]) parts() (name *string, own func() any) {
	return &i.name, func() any { i.own = new(T); return i.own }
}

// choice reads an item. What has the key "env" is a name.
func (d *decoder) choice(n *yaml.Node, c choice, path string) {
	name, own := c.parts()
	entries, is := d.mapping(n)
	named := slices.ContainsFunc(entries, func(e entry) bool { return e.key == "env" })
	switch {
	case is && !named:
		d.plain(n, reflect.ValueOf(own()).Elem(), path)
	case n.Kind == yaml.SequenceNode:
		d.fault(n, path, "want a name or a mapping, not %s", kind(n))
	default:
		d.leaf(n, reflect.ValueOf(name).Elem(), path)
	}
}

// privates returns the private objects of a list, and where they stand in it.
func privates[T any](list []item[T]) (own []T, at []int) {
	for i, it := range list {
		if it.own != nil {
			own, at = append(own, *it.own), append(at, i)
		}
	}
	return own, at
}

// private returns what a service has for itself in the form of a file with one
// service, and where the items of each list stand.
func (c *serviceConfig) private() (own *service, at map[string][]int) {
	own, at = &service{
		Config: c.Config, Geo: c.Geo, RateProfile: c.RateProfile, Tables: c.Tables, Persistence: c.Persistence,
		Authentication: c.Authentication, Transport: c.Transport,
	}, map[string][]int{}
	own.Pools, at["pools"] = privates(c.Pools)
	own.PoolGroups, at["poolGroups"] = privates(c.PoolGroups)
	own.IPGroups, at["ipGroups"] = privates(c.IPGroups)
	own.StringGroups, at["stringGroups"] = privates(c.StringGroups)
	own.Scripts, at["scripts"] = privates(c.Scripts)
	own.RateLimiters, at["rateLimiters"] = privates(c.RateLimiters)
	own.PersistenceProfiles, at["persistenceProfiles"] = privates(c.PersistenceProfiles)
	own.KeySets, at["keySets"] = privates(c.KeySets)
	return own, at
}

// at is the path of an item of a list.
func (b *builder) at(list string, i int) string {
	if places, ok := b.places[list]; ok {
		i = places[i]
	}
	return fielderr.Index(list, i)
}

// shadows notes a private object that has the name of a shared one, which would
// be hidden.
func (b *builder) shadows(list string, i int, what, name string, shared bool) {
	if shared {
		b.fault(fmt.Errorf("%q is %s at the top of the file: write its name alone, or another name", name, what), "%s.name", b.at(list, i))
	}
}

// refer notes names in a list of a service that no shared object has.
func refer[T any](b *builder, list, what string, items []item[T], known func(name string) bool) {
	for i, it := range items {
		if it.own == nil && !known(it.name) {
			b.fault(fmt.Errorf("%s %q not found", what, it.name), "%s", fielderr.Index(list, i))
		}
	}
}
