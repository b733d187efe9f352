package ipgroup

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"go4.org/netipx"

	"github.com/limpetlb/limpet/internal/fielderr"
)

// An EntryError says which entry of a list is invalid, and why.
type EntryError struct {
	Group  string // name of the group
	Index  int    // position in the entries given to Parse, from 0; -1 for an entry of Read or ReadFile
	Line   int    // line of the text, from 1; for Parse, the line inside the element
	Column int    // byte of the line at which the entry begins, from 1
	Text   string // the entry without the blanks around it, cut after 64 bytes
	Reason string // what is wrong, for people
}

// Error names the group, the position, the entry and the reason, as in
//
//	ip group "Office": line 7, column 12: "10.0.0.256" is not an address, range, prefix, country code or AS number
func (e *EntryError) Error() string {
	var position string
	switch {
	case e.Index < 0:
		position = fmt.Sprintf("line %d, column %d", e.Line, e.Column)
	case e.Line > 1:
		position = fmt.Sprintf("entries[%d], line %d, column %d", e.Index, e.Line, e.Column)
	case e.Column > 1:
		position = fmt.Sprintf("entries[%d], column %d", e.Index, e.Column)
	default:
		position = fmt.Sprintf("entries[%d]", e.Index)
	}
	return fmt.Sprintf("ip group %q: %s: %q %s", e.Group, position, e.Text, e.Reason)
}

// maxFaults limits how many bad entries are described one by one.
const maxFaults = 1000

// A parser collects the entries of one list, and its faults.
type parser struct {
	name       string
	options    Options
	maxEntries int // negative: no limit

	entries   int // seen so far, good and bad
	v4        []span[uint32]
	v6        []span[uint128]
	countries countrySet
	asns      map[uint32]struct{}

	faults []error
	bad    int  // entries that are wrong, also those not in faults
	mixed  bool // a country or autonomous system among addresses has been reported
	full   bool // maxEntries was exceeded; the rest is not looked at
}

// A position is that of an entry in a list; the fields are those of EntryError.
type position struct{ index, line, column int }

func newParser(name string, o Options) *parser {
	p := &parser{name: name, options: o, maxEntries: o.MaxEntries}
	if p.maxEntries == 0 {
		p.maxEntries = DefaultMaxEntries
	}
	var faults fielderr.List
	faults.Name("name", name)
	p.faults = append(p.faults, fielderr.Leaves(faults.Err())...)
	return p
}

// file parses the text of a whole file.
func (p *parser) file(text string) {
	if strings.HasPrefix(text, "\xff\xfe") || strings.HasPrefix(text, "\xfe\xff") {
		p.faults = append(p.faults, fmt.Errorf("ip group %q: the text is UTF-16, not UTF-8", p.name))
		return
	}
	p.text(strings.TrimPrefix(text, "\ufeff"), -1)
}

// text parses lines of entries: one element of Parse, or a whole file.
func (p *parser) text(text string, index int) {
	number := 0
	for line := range strings.SplitSeq(text, "\n") {
		if p.full {
			return
		}
		number++
		line, _, _ = strings.Cut(line, "#")
		column := 1
		for part := range strings.SplitSeq(line, ",") {
			entry := strings.TrimSpace(part)
			if entry != "" && !p.full {
				blanks := strings.Index(part, entry)
				p.entry(entry, position{index, number, column + blanks})
			}
			column += len(part) + len(",")
		}
	}
}

// entry parses one entry that is not blank.
func (p *parser) entry(text string, at position) {
	if p.entries++; p.maxEntries >= 0 && p.entries > p.maxEntries {
		p.full = true
		p.faults = append(p.faults, fmt.Errorf("ip group %q: %w: more than %d entries", excerpt(p.name), ErrTooLarge, p.maxEntries))
		return
	}
	bare := text
	if len(text) >= 2 && text[0] == '"' && text[len(text)-1] == '"' {
		bare = strings.TrimSpace(text[1 : len(text)-1])
	}
	var reason string
	switch {
	case len(bare) == 2 && isLetter(bare[0]) && isLetter(bare[1]):
		reason = p.country(strings.ToUpper(bare))
	case len(bare) > 2 && strings.EqualFold(bare[:2], "AS"):
		reason = p.asn(bare[2:])
	default:
		reason = p.addresses(bare)
	}
	if reason == "" {
		reason = p.checkMix()
	}
	if reason != "" {
		p.fault(text, at, reason)
	}
}

func (p *parser) fault(text string, at position, reason string) {
	if p.bad++; p.bad > maxFaults {
		return
	}
	p.faults = append(p.faults, &EntryError{
		Group:  p.name,
		Index:  at.index,
		Line:   at.line,
		Column: at.column,
		Text:   excerpt(text),
		Reason: reason,
	})
}

// country adds a code in upper case. It returns the fault in it, or "".
func (p *parser) country(code string) (reason string) {
	switch {
	case !knownCountries.contains(code):
		return "is not a country code of ISO 3166-1"
	case p.options.Countries == nil:
		return "is a country, and there is no geo data with countries"
	}
	p.countries.add(code)
	return ""
}

// asn adds the digits of an autonomous system. It returns the fault in them, or
// "".
func (p *parser) asn(digits string) (reason string) {
	number, err := strconv.ParseUint(digits, 10, 32)
	switch {
	case err != nil || number == 0 || digits[0] == '0' || digits[0] == '+':
		return "is not the number of an autonomous system, AS1 to AS4294967295"
	case p.options.ASNs == nil:
		return "is an autonomous system, and there is no geo data with autonomous systems"
	}
	if p.asns == nil {
		p.asns = make(map[uint32]struct{})
	}
	p.asns[uint32(number)] = struct{}{}
	return ""
}

// addresses adds an address, a range or a prefix. It returns the fault in it,
// or "".
func (p *parser) addresses(text string) (reason string) {
	if strings.Contains(text, "%") {
		return "has a zone, which means something on one machine only"
	}
	if begin, end, ok := cutRange(text); ok {
		first, err1 := netip.ParseAddr(begin)
		last, err2 := netip.ParseAddr(end)
		if err1 != nil || err2 != nil {
			return "is not a range of two addresses"
		}
		return p.add(netipx.IPRangeFrom(normalize(first), normalize(last)))
	}
	if strings.Contains(text, "/") {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return "is not a prefix"
		}
		if prefix.Addr().Is4In6() {
			if prefix.Bits() < 96 {
				return "is an IPv4-mapped prefix shorter than /96"
			}
			prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96)
		}
		return p.add(netipx.RangeOfPrefix(prefix.Masked()))
	}
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return "is not an address, range, prefix, country code or AS number"
	}
	addr = normalize(addr)
	return p.add(netipx.IPRangeFrom(addr, addr))
}

// cutRange splits a range at its hyphen or en dash.
func cutRange(text string) (begin, end string, ok bool) {
	begin, end, ok = strings.Cut(text, "-")
	if !ok {
		begin, end, ok = strings.Cut(text, "–")
	}
	return strings.TrimSpace(begin), strings.TrimSpace(end), ok
}

func (p *parser) add(r netipx.IPRange) (reason string) {
	first, last := r.From(), r.To()
	switch {
	case first.Is4() != last.Is4():
		return "mixes IPv4 and IPv6"
	case last.Less(first):
		return "begins after its end"
	case first.Is4():
		p.v4 = append(p.v4, span[uint32]{number4(first), number4(last)})
	default:
		p.v6 = append(p.v6, span[uint128]{number6(first), number6(last)})
	}
	return ""
}

// checkMix reports, once, the entry that mixes addresses with countries or
// autonomous systems.
func (p *parser) checkMix() (reason string) {
	if p.mixed || !p.hasOrigins() || len(p.v4)+len(p.v6) == 0 {
		return ""
	}
	p.mixed = true
	return "mixes addresses with countries or autonomous systems in one group"
}

// hasOrigins reports whether the list has a country or an autonomous system.
func (p *parser) hasOrigins() bool { return p.countries.len() > 0 || len(p.asns) > 0 }

// group returns the group, or all faults.
func (p *parser) group() (*Group, error) {
	if p.entries == 0 && len(p.faults) == 0 && !p.options.AllowEmpty {
		p.faults = append(p.faults, fmt.Errorf("ip group %q: %w", p.name, ErrEmpty))
	}
	if p.bad > maxFaults {
		p.faults = append(p.faults, fmt.Errorf("ip group %q: %d more bad entries", p.name, p.bad-maxFaults))
	}
	if len(p.faults) > 0 {
		return nil, errors.Join(p.faults...)
	}
	if p.hasOrigins() {
		return &Group{p.name, &origins{p.countries, p.options.Countries, p.asns, p.options.ASNs}, nil}, nil
	}
	return &Group{p.name, newRangeSet(p.v4, p.v6), nil}, nil
}

func isLetter(b byte) bool { return 'a' <= b|0x20 && b|0x20 <= 'z' }

// excerpt returns a copy of text that is short enough for an error.
func excerpt(text string) string {
	const most = 64
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return strings.Clone(text)
}
