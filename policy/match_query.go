package policy

import (
	"strconv"
	"strings"

	"github.com/limpetlb/limpet/internal/fielderr"
)

// QueryMatch compares the whole query, without the leading "?", after
// percent-decoding it once; values are written decoded and begin neither with
// "?" nor with "&". An empty query is an absent one.
//
// A query with "+" has two interpretations, because servers disagree: "+" means
// itself or a space. Rules with [Allow] match only if both interpretations do;
// other rules match if either does.
type QueryMatch struct {
	Op            Op       // a text operator, Exists or DoesNotExist; required
	Values        []string // none with Exists and DoesNotExist, otherwise at least one unless there are StringGroups
	StringGroups  []string // names of groups in [Env].StringGroups, whose keys are values as well
	CaseSensitive bool     // false: case is ignored
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

// queryCondition is the compiled form of a QueryMatch.
type queryCondition struct {
	set           *stringSet // nil for Exists and DoesNotExist
	exists        bool       // for these two
	negate, every bool
}

func (m *QueryMatch) compile(c *compiler, field string, every bool) *queryCondition {
	op := m.Op
	if op.isPresence() {
		return &queryCondition{exists: c.presence(field, op, m.Values, m.StringGroups)}
	}
	values := c.values(field, op, m.Values, m.StringGroups, m.CaseSensitive)
	if op.positive() != MatchesRegexp {
		for i, v := range m.Values {
			if strings.HasPrefix(v, "?") || strings.HasPrefix(v, "&") {
				c.faults.Addf(fielderr.Index(field+".values", i), v, "begins with %q, which is not part of the query", v[:1])
			}
		}
	}
	q := &queryCondition{negate: op.negative(), every: every}
	q.set = newStringSet(op.positive(), m.CaseSensitive, values, errURITooLong)
	c.useGroups(field, q.set, m.StringGroups, false)
	return q
}

func (q *queryCondition) holds(s *subjects) (bool, error) {
	if q.set == nil {
		return (s.rawQuery() != "") == q.exists, nil
	}
	if s.rawQuery() == "" {
		return q.negate, nil
	}
	for _, t := range s.queryReadings() {
		in, err := q.set.contains(t)
		if holds := in != q.negate; err != nil || holds != q.every {
			return holds, err
		}
	}
	return q.every, nil
}

// matching returns the first interpretation that matches a value.
func (q *queryCondition) matching(s *subjects) (text, bool) {
	if q.set == nil || s.rawQuery() == "" {
		return text{}, false
	}
	for _, t := range s.queryReadings() {
		if in, err := q.set.contains(t); in && err == nil {
			return t, true
		}
	}
	return text{}, false
}

// shown is the query for an explanation.
func (q *queryCondition) shown(s *subjects) string {
	if s.rawQuery() == "" {
		return "absent"
	}
	return strconv.Quote(string(s.queryReadings()[0].exact))
}
