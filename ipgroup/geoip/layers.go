package geoip

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// Source says where addresses are. [*DB], [*Table] and [*Layers] are sources. It must be safe for concurrent use.
type Source interface {
	// Locate returns an attribute of an address, if the source knows it. The empty name means [CountryCode].
	Locate(addr netip.Addr, attribute string) (value string, ok bool)
	// Knows reports whether the source has an attribute of any address.
	Knows(attribute string) bool
}

// Layer is one of several sources that complete each other.
type Layer struct {
	Source   Source // required
	Index    int    // the larger, the sooner it is asked; no two layers have the same
	Disabled bool   // it is not asked
}

// Layers are several sources in one: for an attribute of an address, the layer with the largest index that knows it decides. So a
// [Table] of networks of one's own overrides a database of countries, and one of autonomous systems adds to it.
//
// It is immutable and safe for concurrent use; its sources may change by themselves. The zero Layers knows nothing.
type Layers struct{ sources []Source }

// NewLayers returns the layers in their order. All faults are reported together.
func NewLayers(layers ...Layer) (*Layers, error) {
	var faults []error
	byIndex := make(map[int]int)
	for i, l := range layers {
		if l.Source == nil {
			faults = append(faults, fmt.Errorf("layers[%d].source: nil", i))
		}
		if first, ok := byIndex[l.Index]; ok {
			faults = append(faults, fmt.Errorf("layers[%d].index: %d is already that of layers[%d]", i, l.Index, first))
			continue
		}
		byIndex[l.Index] = i
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	ordered := slices.SortedFunc(slices.Values(layers), func(a, b Layer) int { return cmp.Compare(b.Index, a.Index) })
	l := new(Layers)
	for _, layer := range ordered {
		if !layer.Disabled {
			l.sources = append(l.sources, layer.Source)
		}
	}
	return l, nil
}

// Locate returns an attribute of addr from the first layer that knows it.
func (l *Layers) Locate(addr netip.Addr, attribute string) (value string, ok bool) {
	for _, s := range l.sources {
		if value, ok := s.Locate(addr, attribute); ok {
			return value, true
		}
	}
	return "", false
}

// Country returns the ISO 3166-1 alpha-2 code of the country of addr, in upper case.
func (l *Layers) Country(addr netip.Addr) (code string, ok bool) { return l.Locate(addr, CountryCode) }

// ASN returns the number of the autonomous system that announces addr.
func (l *Layers) ASN(addr netip.Addr) (number uint32, ok bool) {
	return parseASN(l.Locate(addr, ASNumber))
}

// Knows reports whether one of the layers has an attribute of any address.
func (l *Layers) Knows(attribute string) bool {
	return slices.ContainsFunc(l.sources, func(s Source) bool { return s.Knows(attribute) })
}
