package policy

import (
	"slices"
	"strconv"

	"github.com/limpetlb/limpet/internal/fielderr"
)

// ResponseMatch selects responses. Every part that is set must match, and the
// zero value selects every response.
type ResponseMatch struct {
	// Request compares the request as received, before any policy or script
	// changed it.
	Request Match
	// Status compares the status of the response. Nil means any.
	Status *StatusMatch
	// Headers compare headers of the response; all of them must match.
	Headers []HeaderMatch
	// Location compares the Location header as it is. It takes text operators,
	// Exists and DoesNotExist. Nil means any.
	Location *TextMatch
}

// StatusMatch compares the status of a response with the union of its lists.
// At least one list must have an entry.
type StatusMatch struct {
	Op     Op           // IsIn or IsNotIn
	Codes  []int        // single statuses, 100 to 999
	Ranges []Range[int] // ranges, both ends included
}

func (m *ResponseMatch) compile(c *compiler, field string) compiledMatch {
	all := m.Request.compile(c, field+".request", false)
	var own []condition
	if m := m.Status; m != nil {
		own = append(own, condition{about("status", m.Op, m.texts()...), m.compile(c, field+".status"),
			func(s *subjects) string { return strconv.Itoa(s.status) }})
	}
	for i := range m.Headers {
		h := &m.Headers[i]
		f := h.compileResponse(c, fielderr.Index(field+".headers", i))
		own = append(own, condition{about("response header "+f.name.name, h.Op, quoted(h.Values, h.StringGroups)...), f.holds, f.shown})
	}
	if m := m.Location; m != nil {
		name := fieldName{response: true, name: "Location"}
		f := compileField(c, field+".location", name, m.Op, m.Values, nil, m.CaseSensitive, errResponseTooLong)
		own = append(own, condition{about("Location", m.Op, quoted(m.Values, nil)...), f.holds, f.shown})
	}
	// The response's own conditions come first: they are cheap.
	all.conditions = append(own, all.conditions...)
	return all
}

func (m *StatusMatch) compile(c *compiler, field string) func(*subjects) (bool, error) {
	m.Op.checkSet(&c.faults, field)
	if len(m.Codes)+len(m.Ranges) == 0 {
		c.faults.Addf(field, nil, "no codes or ranges")
	}
	var set [1000]bool
	for i, code := range m.Codes {
		if code < 100 || code > 999 {
			c.faults.Addf(fielderr.Index(field+".codes", i), code, "not a status")
			continue
		}
		set[code] = true
	}
	for i, r := range m.Ranges {
		if r.Begin < 100 || r.End > 999 || r.Begin > r.End {
			c.faults.Addf(fielderr.Index(field+".ranges", i), nil, "%d-%d is not a range of statuses", r.Begin, r.End)
			continue
		}
		for code := r.Begin; code <= r.End; code++ {
			set[code] = true
		}
	}
	negate := m.Op == IsNotIn
	return func(s *subjects) (bool, error) {
		return (s.status >= 0 && s.status < len(set) && set[s.status]) != negate, nil
	}
}

// texts describes the values of the match.
func (m *StatusMatch) texts() []string {
	var texts []string
	for _, code := range slices.Sorted(slices.Values(m.Codes)) {
		texts = append(texts, strconv.Itoa(code))
	}
	for _, r := range m.Ranges {
		texts = append(texts, strconv.Itoa(r.Begin)+"-"+strconv.Itoa(r.End))
	}
	return texts
}
