package policy

import (
	"bytes"
	"strings"

	"github.com/limpetlb/limpet/internal/fielderr"
)

// TextMatch compares one text: the host of a request, see [Match].Host, or the
// Location of a response, see [ResponseMatch].Location.
type TextMatch struct {
	Op            Op       // required
	Values        []string // none with Exists and DoesNotExist, otherwise at least one; none empty
	CaseSensitive bool     // false: case is ignored
}

// hostText is the host of a request in both forms that are compared.
type hostText struct {
	ready      bool
	bare, full text
}

func (s *subjects) hostText() *hostText {
	h := &s.host
	if !h.ready {
		h.ready = true
		h.full = s.copy(s.http.Host)
		bare := hostWithoutPort(s.http.Host)
		h.bare = s.copy(strings.TrimSuffix(bare, "."))
	}
	return h
}

// hostWithoutPort removes ":port" from a host and keeps the brackets of IPv6.
// It accepts any text, since clients choose it.
func hostWithoutPort(host string) string {
	if strings.HasPrefix(host, "[") {
		if i := strings.IndexByte(host, ']'); i >= 0 {
			return host[:i+1]
		}
		return host
	}
	name, _, _ := strings.Cut(host, ":")
	return name
}

func (m *TextMatch) compileHost(c *compiler, field string) func(*subjects) (bool, error) {
	values := c.values(field, m.Op, m.Values, nil, m.CaseSensitive)
	var bare, full []value
	for i, v := range values {
		switch {
		case v.re != nil:
			bare = append(bare, v)
			if strings.Contains(v.source, ":") {
				full = append(full, v)
			}
		case strings.ContainsAny(v.source, "/ "):
			c.faults.Addf(fielderr.Index(field+".values", i), v.source, "not part of a host name")
		case strings.Contains(v.source[strings.LastIndexByte(v.source, ']')+1:], ":"):
			full = append(full, v)
		default:
			if m.Op.positive() == Equals {
				v.text = bytes.TrimSuffix(v.text, []byte("."))
			}
			bare = append(bare, v)
		}
	}
	op := m.Op.positive()
	bareSet := newStringSet(op, m.CaseSensitive, bare, errFieldTooLong)
	fullSet := newStringSet(op, m.CaseSensitive, full, errFieldTooLong)
	negate := m.Op.negative()
	return func(s *subjects) (bool, error) {
		if s.http.Host == "" {
			return negate, nil
		}
		h := s.hostText()
		in, err := bareSet.contains(h.bare)
		if !in && err == nil {
			in, err = fullSet.contains(h.full)
		}
		return in != negate, err
	}
}
