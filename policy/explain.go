package policy

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/limpetlb/limpet/internal/oneline"
)

// explainer writes how a policy comes to its decision. Policies decide with the
// same code to explain and to act. A nil *explainer means to act: to count and
// to take tokens.
type explainer struct{ strings.Builder }

func (x *explainer) rule(i int, name string) { fmt.Fprintf(x, "rules[%d] %q\n", i, name) }

func (x *explainer) condition(c *condition, s *subjects, ok bool, err error) {
	switch {
	case err != nil:
		x.linef("%s: %v", c.about, err)
	case ok:
		x.linef("%s: yes (%s)", c.about, c.shown(s))
	default:
		x.linef("%s: no (%s)", c.about, c.shown(s))
	}
}

func (x *explainer) network(n *networkCondition, c conn, ok bool, err error) {
	answer := "no"
	if ok {
		answer = "yes"
	}
	if err != nil {
		answer = err.Error()
	}
	x.linef("%s: %s (%v to port %d)", n.about, answer, c.client, c.local.Port())
}

func (x *explainer) linef(format string, args ...any) {
	x.WriteString("    " + oneline.Escape(fmt.Sprintf(format, args...)) + "\n")
}

const explainNoRule = "no rule decides: the request goes on\n"

// decision writes the last line: what would be done.
func (x *explainer) decision(v Verdict, e ending, err error, failOpen bool) {
	switch status, ended := failureStatus(err, failOpen); {
	case v.Index < 0:
		x.WriteString(explainNoRule)
	case err == nil:
		fmt.Fprintf(x, "rules[%d] %q decides: %s\n", v.Index, v.Rule, oneline.Escape(e.String()))
	case ended:
		fmt.Fprintf(x, "rules[%d] %q fails: respond %d\n", v.Index, v.Rule, status)
	default:
		fmt.Fprintf(x, "rules[%d] %q fails open: the request goes on\n", v.Index, v.Rule)
	}
}

// applied writes the last line for rules that change something.
func (x *explainer) applied(rules []string) {
	fmt.Fprintf(x, "applied: %s\n", strings.Join(rules, ", "))
}

// String describes the ending in words.
func (e *ending) String() string {
	switch {
	case e.location != "":
		return fmt.Sprintf("redirect %d to %s", e.page.Status, e.location)
	case e.page.Status != 0:
		return fmt.Sprintf("respond %d", e.page.Status)
	}
	return e.action.String()
}

// shownValues limits the values of a match that an explanation names.
const shownValues = 3

// about describes the question of a match.
func about(subject string, op Op, values ...string) string {
	text := subject + " " + op.String()
	more := len(values) - shownValues
	if more > 0 {
		values = values[:shownValues]
	}
	if len(values) > 0 {
		text += " " + strings.Join(values, ", ")
	}
	if more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

func quoted(values, groups []string) []string {
	var texts []string
	for _, v := range values[:min(len(values), shownValues+1)] {
		texts = append(texts, strconv.Quote(v))
	}
	for i := len(texts); i < len(values); i++ {
		texts = append(texts, "") // counted, not shown
	}
	for _, g := range groups {
		texts = append(texts, "string group "+strconv.Quote(g))
	}
	return texts
}

// texts describes the values of the match.
func (m *IPMatch) texts() []string {
	var texts []string
	for _, a := range m.Addrs {
		texts = append(texts, a.String())
	}
	for _, p := range m.Prefixes {
		texts = append(texts, p.String())
	}
	for _, r := range m.Ranges {
		texts = append(texts, r.Begin.String()+"-"+r.End.String())
	}
	for _, g := range m.Groups {
		texts = append(texts, "IP group "+strconv.Quote(g))
	}
	return texts
}

// texts describes the values of the match.
func (m *PortMatch) texts() []string {
	var texts []string
	for _, p := range m.Ports {
		texts = append(texts, strconv.Itoa(int(p)))
	}
	for _, r := range m.Ranges {
		texts = append(texts, fmt.Sprintf("%d-%d", r.Begin, r.End))
	}
	return texts
}
