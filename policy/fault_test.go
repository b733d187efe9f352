package policy

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func lines(err error) []string {
	if err == nil {
		return nil
	}
	return strings.Split(err.Error(), "\n")
}

// One rule for each way to be wrong; all are reported together.
func TestHTTPSecurityFaults(t *testing.T) {
	env := Env{IPGroups: groups{"known": nil}}
	zone := netip.MustParseAddr("fe80::1%eth0")
	rules := []SecurityRule{
		{Name: "ok", Action: Close{}},
		{Name: "", Action: Close{}},
		{Name: "ok", Action: Close{}},
		{Name: "line\nend", Action: Close{}, Disabled: true},
		{Name: strings.Repeat("n", 512), Action: Close{}},
		{Name: "no action"},
		{Name: "pointer", Action: &Allow{}},
		{Name: "status", Action: Respond{Status: 199}},
		{Name: "type", Action: Respond{Status: 200, ContentType: "text/html\r\nX: y", Body: []byte("x")}},
		{Name: "type without body", Action: Respond{Status: 200, ContentType: "text/html"}},
		{Name: "content", Action: Respond{Status: 304, Body: []byte("x")}},
		{Name: "ip", Action: Close{}, Match: Match{
			ClientIP: &IPMatch{Op: 2, Addrs: []netip.Addr{{}, zone}, Prefixes: make([]netip.Prefix, 1), Groups: []string{"known", "Blacklist"}},
			SourceIP: &IPMatch{Ranges: []Range[netip.Addr]{
				{},
				{zone, netip.MustParseAddr("fe80::2")},
				{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.1")},
				{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("::1")},
			}},
		}},
		{Name: "ports", Action: Close{}, Match: Match{VSPort: &PortMatch{Op: 99, Ports: []uint16{80, 0}, Ranges: []Range[uint16]{{0, 9}, {9, 8}}}}},
		{Name: "small sets", Action: Close{}, Match: Match{
			Protocol: &ProtocolMatch{}, Method: &MethodMatch{Methods: []string{"GET", "get", "G T", ""}}, Version: &VersionMatch{Versions: []string{"", "HTTP/1.1", "HTTP/5"}},
		}},
		{Name: "no values", Action: Close{}, Match: Match{
			ClientIP: &IPMatch{}, VSPort: &PortMatch{}, Method: &MethodMatch{}, Version: &VersionMatch{}, Protocol: &ProtocolMatch{Protocol: HTTP},
			Path: &PathMatch{Op: Equals}, Query: &QueryMatch{Op: Contains}, Host: &TextMatch{Op: EndsWith},
			Headers: []HeaderMatch{{Name: "X", Op: Equals}}, Cookie: &CookieMatch{Name: "x", Op: Equals},
		}},
		{Name: "no operators", Action: Close{}, Match: Match{
			Path: &PathMatch{Values: []string{"x"}}, Query: &QueryMatch{Values: []string{"x"}}, Host: &TextMatch{Op: 99, Values: []string{"x"}},
			Headers: []HeaderMatch{{Name: "X", Values: []string{"x"}}}, Cookie: &CookieMatch{Name: "x", Op: IsNotIn, Values: []string{"x"}},
		}},
		{Name: "values", Action: Close{}, Match: Match{
			Path:    &PathMatch{Op: Contains, Values: []string{"x", ""}},
			Query:   &QueryMatch{Op: BeginsWith, Values: []string{"x", "?x", "&x"}},
			Host:    &TextMatch{Op: Equals, Values: []string{"https://example.com", "a b"}},
			Headers: []HeaderMatch{{Name: "X", Op: Exists, Values: []string{"x"}}, {Name: "a b", Op: Exists}, {Name: "trailer", Op: Exists}},
			Cookie:  &CookieMatch{Name: "a=b", Op: MatchesRegexp, Values: []string{"("}},
		}},
	}
	want := []string{
		`rules[1].name: missing`,
		`rules[2].name: "ok": already the name of a rule before it`,
		`rules[3].name: "line\nend": not printable text`,
		`rules[4].name: "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"...: longer than 511 bytes`,
		`rules[5].action: a rule needs an action`,
		`rules[6].action: *policy.Allow is not an action; give the struct, not a pointer to it`,
		`rules[7].action.status: 199: less than 200`,
		`rules[8].action.contentType: "text/html\r\nX: y": not a media type`,
		`rules[9].action.contentType: "text/html": given without a body`,
		`rules[10].action.body: a response with status 304 has no content`,
		`rules[11].match.clientIP.op: "begins with": not one of is in, is not in`,
		`rules[11].match.clientIP.addrs[0]: not a valid IP address`,
		`rules[11].match.clientIP.addrs[1]: fe80::1%eth0: an address with a zone cannot be matched`,
		`rules[11].match.clientIP.prefixes[0]: not a valid IP prefix`,
		`rules[11].match.clientIP.groups[1]: "Blacklist": unknown group`,
		`rules[11].match.sourceIP.ranges[0].begin: not a valid IP address`,
		`rules[11].match.sourceIP.ranges[0].end: not a valid IP address`,
		`rules[11].match.sourceIP.ranges[1].begin: fe80::1%eth0: an address with a zone cannot be matched`,
		`rules[11].match.sourceIP.ranges[2]: 10.0.0.2-10.0.0.1 begins after its end`,
		`rules[11].match.sourceIP.ranges[3]: 10.0.0.2-::1 mixes IPv4 and IPv6`,
		`rules[12].match.vsPort.op: 99: not one of is in, is not in`,
		`rules[12].match.vsPort.ports[1]: port 0 cannot be matched`,
		`rules[12].match.vsPort.ranges[0].begin: port 0 cannot be matched`,
		`rules[12].match.vsPort.ranges[1]: 9-8 begins after its end`,
		`rules[13].match.protocol.protocol: missing: one of http, https`,
		`rules[13].match.method.methods[1]: "get": must be written "GET"`,
		`rules[13].match.method.methods[2]: "G T": not a method`,
		`rules[13].match.method.methods[3]: "": not a method`,
		`rules[13].match.version.versions[0]: "": not one of HTTP/1.0, HTTP/1.1, HTTP/2, HTTP/3`,
		`rules[13].match.version.versions[2]: "HTTP/5": not one of HTTP/1.0, HTTP/1.1, HTTP/2, HTTP/3`,
		`rules[14].match.clientIP: no addrs, prefixes, ranges or groups`,
		`rules[14].match.vsPort: no ports or ranges`,
		`rules[14].match.method.methods: missing`,
		`rules[14].match.version.versions: missing`,
		`rules[14].match.path.values: "equals" needs a value`,
		`rules[14].match.query.values: "contains" needs a value`,
		`rules[14].match.host.values: "ends with" needs a value`,
		`rules[14].match.headers[0].values: "equals" needs a value`,
		`rules[14].match.cookie.values: "equals" needs a value`,
		`rules[15].match.path.op: a match of text needs an operator, such as "equals"`,
		`rules[15].match.query.op: a match of text needs an operator, such as "equals"`,
		`rules[15].match.host.op: 99: not one of is in, is not in, begins with, does not begin with, contains, does not contain, ends with, does not end with, equals, does not equal, matches regexp, does not match regexp, exists, does not exist`,
		`rules[15].match.headers[0].op: a match of text needs an operator, such as "equals"`,
		`rules[15].match.cookie.op: "is not in": does not compare text`,
		`rules[16].match.path.values[1]: an empty value is part of every text`,
		`rules[16].match.query.values[1]: "?x": begins with "?", which is not part of the query`,
		`rules[16].match.query.values[2]: "&x": begins with "&", which is not part of the query`,
		`rules[16].match.host.values[0]: "https://example.com": not part of a host name`,
		`rules[16].match.host.values[1]: "a b": not part of a host name`,
		`rules[16].match.headers[0].values: "exists" takes no values`,
		`rules[16].match.headers[1].name: "a b": not a header name`,
		`rules[16].match.headers[2].name: "trailer": net/http does not deliver this header with every request`,
		`rules[16].match.cookie.name: "a=b": not a cookie name`,
		`rules[16].match.cookie.values[0]: "(": missing closing )`,
	}
	p, err := NewHTTPSecurity(rules, env)
	if diff := cmp.Diff(want, lines(err)); diff != "" {
		t.Error(diff)
	}
	if p != nil {
		t.Error("a faulty configuration made a policy")
	}
	if !errors.Is(err, errUnknownGroup) {
		t.Error("the service's error is lost")
	}
	var fe *FieldError
	if !errors.As(err, &fe) || fe.Path != "rules[1].name" {
		t.Errorf("%v", fe)
	}
}

func TestNetworkSecurityFaults(t *testing.T) {
	_, err := NewNetworkSecurity([]NetworkRule{
		{Name: "a", Match: NetworkMatch{ClientIP: &IPMatch{Groups: []string{"g"}}}},
		{Name: "a", Action: ActionModify, Match: NetworkMatch{VSPort: &PortMatch{}, ClientPort: &PortMatch{Ports: []uint16{0}}}},
	}, Env{})
	want := []string{
		`rules[0].match.clientIP.groups[0]: "g": the policy was given no IP groups`,
		`rules[0].action: a rule needs an action`,
		`rules[1].name: "a": already the name of a rule before it`,
		`rules[1].match.vsPort: no ports or ranges`,
		`rules[1].match.clientPort.ports[0]: port 0 cannot be matched`,
		`rules[1].action: "modify": not one of allow, reset, rate limit`,
	}
	if diff := cmp.Diff(want, lines(err)); diff != "" {
		t.Error(diff)
	}
	// A group service that is a nil pointer is found at construction.
	var none *nilGroups
	_, err = NewNetworkSecurity([]NetworkRule{
		{Name: "a", Action: ActionReset, Match: NetworkMatch{ClientIP: &IPMatch{Groups: []string{"g"}}}},
	}, Env{IPGroups: none})
	if err == nil || !strings.HasPrefix(err.Error(), `rules[0].match.clientIP.groups[0]: "g": panic: `) {
		t.Error(err)
	}
}

type nilGroups struct{ groups }

func (n *nilGroups) Contains(group string, addr netip.Addr) (bool, error) {
	return n.groups.Contains(group, addr)
}
