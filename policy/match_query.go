package policy

import "strings"

// QueryMatch compares the whole query, without the leading "?", after
// percent-decoding it once; values are written decoded and begin neither with
// "?" nor with "&". An empty query is an absent one.
//
// A query with "+" has two readings, because servers disagree: "+" stands for
// itself, and for a space. A match in an [Allow] rule holds only if it holds
// for both; a match in any other rule holds if it holds for either.
type QueryMatch struct {
	Op            ValueOp  // required
	Values        []string // at least one for a StringOp, none for a PresenceOp
	CaseSensitive bool     // false: case does not matter
}

func (s *subjects) rawQuery() string {
	if s.http.URL == nil {
		return ""
	}
	return s.http.URL.RawQuery
}

// queryReadings must not be called for an absent query.
func (s *subjects) queryReadings() []text {
	if len(s.queries) == 0 {
		raw := s.rawQuery()
		s.addQuery(raw, false)
		if strings.IndexByte(raw, '+') >= 0 {
			s.addQuery(raw, true)
		}
	}
	return s.queries
}

func (s *subjects) addQuery(raw string, plusIsSpace bool) {
	start := len(s.arena)
	s.arena = appendUnescaped(s.arena, raw, plusIsSpace)
	s.queries = append(s.queries, s.take(start))
}

func (m *QueryMatch) compile(c *compiler, field string, every bool) condition {
	if op, ok := m.Op.(PresenceOp); ok {
		exists := c.presence(field, op, m.Values)
		return func(s *subjects) (bool, error) { return (s.rawQuery() != "") == exists, nil }
	}
	op := stringOp(m.Op)
	values := c.values(field, op, m.Values, m.CaseSensitive)
	if op.positive() != MatchesRegexp {
		for i, v := range m.Values {
			if strings.HasPrefix(v, "?") || strings.HasPrefix(v, "&") {
				c.addf(indexed(field, "values", i), "%q begins with %q, which is not part of the query", v, v[:1])
			}
		}
	}
	set := newStringSet(op.positive(), m.CaseSensitive, values, ErrURITooLong)
	negate := op.negative()
	return func(s *subjects) (bool, error) {
		if s.rawQuery() == "" {
			return negate, nil
		}
		for _, t := range s.queryReadings() {
			in, err := set.contains(t)
			if holds := in != negate; err != nil || holds != every {
				return holds, err
			}
		}
		return every, nil
	}
}
