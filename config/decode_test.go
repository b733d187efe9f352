package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/policy"
)

// Numbers of bytes may have a unit, other numbers may not.
func TestDecodeBytes(t *testing.T) {
	c, err := decoded(t, "requestBody: {bytes: 128KiB, head: true}\nresponseBody: {bytes: 2 MiB}")
	if err != nil {
		t.Fatal(err)
	}
	want := limpet.BodyBuffer{Bytes: 128 << 10, Head: true}
	if c.RequestBody != want || c.ResponseBody != (limpet.BodyBuffer{Bytes: 2 << 20}) {
		t.Errorf("%+v, %+v", c.RequestBody, c.ResponseBody)
	}
	// Units of 1,000 were refused, with an error that spoke of a type of Go.
	if c, err = decoded(t, "requestBody: {bytes: 64MB}\nresponseBody: {bytes: 2 KB}\nbodyBytes: 1GB"); err != nil {
		t.Fatal(err)
	}
	if c.RequestBody.Bytes != 64e6 || c.ResponseBody.Bytes != 2000 || c.BodyBytes != 1e9 {
		t.Errorf("%+v, %+v, %d", c.RequestBody, c.ResponseBody, c.BodyBytes)
	}
	_, err = decoded(t, "requestBody: {bytes: 64M}")
	if want := `text:1:22: requestBody.bytes: want a number of bytes, such as 65536, 64KiB or 64KB, not "64M"`; err == nil || err.Error() != want {
		t.Errorf("%v, not %s", err, want)
	}
	for _, text := range []string{"requestBody: {bytes: KiB}", "requestBody: {bytes: 99999999999999GiB}", "instances: 1KiB"} {
		if _, err := decoded(t, text); err == nil {
			t.Errorf("%s: accepted", text)
		}
	}
}

// What YAML has beside plain values: anchors, aliases, merged mappings, null,
// texts of several lines, and texts that look like numbers.
func TestDecode(t *testing.T) {
	const text = `# one of the rules is a template
name: 012
persistence: ~
trustedProxies: [&lan 10.0.0.0/8]
stringGroups:
  - {name: words, list: [true, 1.50, 2_000, 'no']}
  - name: ordered
    map: {z: 1, a: 2, m: ''}
httpSecurity:
  - &admin
    name: admin
    match: &match
      path: {op: BEGINS WITH, values: [/admin]}
      clientIP: {op: isNotIn, prefixes: [*lan]}
    action: &refusal
      respond:
        status: 403
        body: |
          no
          entry
  - {<<: *admin, name: other, log: true}
  - name: third
    match:
      <<: [*match, {path: {op: equals, values: [/third]}, method: {methods: [GET]}}]
      clientIP: ~
    action: *refusal
`
	c, err := decoded(t, text)
	if err != nil {
		t.Fatal(err)
	}
	no := policy.Respond{Status: 403, Body: []byte("no\nentry\n")}
	path := &policy.PathMatch{Op: policy.BeginsWith, Values: []string{"/admin"}}
	match := policy.Match{Path: path, ClientIP: &policy.IPMatch{Op: policy.IsNotIn, Prefixes: c.TrustedProxies}}
	want := []policy.SecurityRule{
		{Name: "admin", Match: match, Action: no},
		{Name: "other", Match: match, Action: no, Log: true},
		{Name: "third", Match: policy.Match{Path: path, Method: &policy.MethodMatch{Methods: []string{"GET"}}}, Action: no},
	}
	if diff := cmp.Diff(want, c.HTTPSecurity, cmpopts.EquateComparable(c.TrustedProxies[0])); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
	if c.Name != "012" || c.Persistence.own != nil || c.TrustedProxies[0].String() != "10.0.0.0/8" {
		t.Errorf("%q, %v, %v", c.Name, c.Persistence, c.TrustedProxies)
	}
	if diff := cmp.Diff([]string{"true", "1.50", "2_000", "no"}, c.StringGroups[0].List); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(pairs{{Key: "z", Value: "1"}, {Key: "a", Value: "2"}, {Key: "m"}}, c.StringGroups[1].Map); diff != "" {
		t.Error(diff)
	}
}

// An empty file is an empty configuration.
func TestDecodeNothing(t *testing.T) {
	for _, text := range []string{"", "\n", "# nothing\n", "---\n", "~\n"} {
		if _, err := decoded(t, text); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// Odd files are read, or refused with a place.
func TestDecodeOddFiles(t *testing.T) {
	for _, text := range []string{
		shop, "{", "? [a]\n: b\n", "? \n: b\n", "&a [*a]", "<<: {name: a}", "<<: ~", "<<: [[{name: a}]]", "name: !!str a", "- a", "a", "name: |\n  x\n",
		"pools:\n-\n", "httpRequest: [{action: {}}]", "httpRequest: [{action: {modify: }}]", "x: &\n", "name: *", "%YAML 1.2\n---\nname: a", "name: .nan",
		"connections: {max: -9223372036854775808}", "persistence: {customHeader: {servers: {a: {b: c}}}}", "stringGroups: [{map: {<<: {a: b}}}]",
	} {
		if _, err := decoded(t, text); err != nil && !strings.HasPrefix(err.Error(), "text:") {
			t.Errorf("%q: no place in %v", text, err)
		}
	}
}
