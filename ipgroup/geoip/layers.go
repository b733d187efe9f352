package geoip

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/limpetlb/limpet/internal/fielderr"
)

// A FieldError is one fault of an argument: the Path, as in "layers[1].index",
// its Value, and Err, the fault.
type FieldError = fielderr.Error

// A Source finds attributes of addresses. [*DB], [*Table] and [*Layers] are
// sources. It must be safe for concurrent use.
type Source interface {
	// Locate returns an attribute of an address, or false if the source does
	// not have it. The empty name means [CountryCode].
	Locate(addr netip.Addr, attribute string) (value string, ok bool)
	// Knows reports whether the source has an attribute for any address.
	Knows(attribute string) bool
}

// A Layer is one source of [Layers].
type Layer struct {
	Source   Source // required
	Index    int    // larger indexes have precedence; each layer needs a different one
	Disabled bool   // the layer is ignored
}

// Layers combine several sources: an attribute of an address comes from the
// layer with the largest index that has it. So a [Table] of your own networks
// overrides a database of countries, and a database of autonomous systems adds
// to it.
//
// Layers are immutable and safe for concurrent use; their sources may be
// reloaded. The zero Layers have no source.
type Layers struct{ sources []Source }

// NewLayers returns the layers in their order. The error joins a
// [*FieldError] for each fault.
func NewLayers(layers ...Layer) (*Layers, error) {
	var faults fielderr.List
	byIndex := make(map[int]int)
	for i, l := range layers {
		if l.Source == nil {
			faults.Addf(fielderr.Index("layers", i)+".source", nil, "missing")
		}
		if first, ok := byIndex[l.Index]; ok {
			faults.Addf(fielderr.Index("layers", i)+".index", l.Index, "already the index of layers[%d]", first)
			continue
		}
		byIndex[l.Index] = i
	}
	if faults.Len() > 0 {
		return nil, faults.Err()
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

// Locate returns an attribute of addr from the first layer that has it.
func (l *Layers) Locate(addr netip.Addr, attribute string) (value string, ok bool) {
	for _, s := range l.sources {
		if value, ok := s.Locate(addr, attribute); ok {
			return value, true
		}
	}
	return "", false
}

// Country returns the ISO 3166-1 alpha-2 code of the country of addr, in upper
// case.
func (l *Layers) Country(addr netip.Addr) (code string, ok bool) { return l.Locate(addr, CountryCode) }

// ASN returns the number of the autonomous system that announces addr.
func (l *Layers) ASN(addr netip.Addr) (number uint32, ok bool) {
	return parseASN(l.Locate(addr, ASNumber))
}

// Knows reports whether a layer has an attribute for any address.
func (l *Layers) Knows(attribute string) bool {
	return slices.ContainsFunc(l.sources, func(s Source) bool { return s.Knows(attribute) })
}
