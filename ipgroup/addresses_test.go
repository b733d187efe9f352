package ipgroup_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet/ipgroup"
)

func TestAddresses(t *testing.T) {
	for _, test := range []struct {
		name    string
		entries []string
		want    []string // the first 6
		more    bool
	}{
		{"single", []string{"10.0.0.1"}, []string{"10.0.0.1"}, false},
		{"overlapping and out of order", []string{"10.0.0.9", "10.0.0.0/31", "10.0.0.1-10.0.0.3"},
			[]string{"10.0.0.0", "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.9"}, false},
		{"the last address", []string{"255.255.255.254/31"}, []string{"255.255.255.254", "255.255.255.255"}, false},
		{"large", []string{"10.0.0.0/8"}, []string{"10.0.0.0", "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"}, true},
		{"IPv6", []string{"2001:db8::ffff-2001:db8::1:1"}, []string{"2001:db8::ffff", "2001:db8::1:0", "2001:db8::1:1"}, false},
		{"a network of IPv6", []string{"2001:db8::/64", "10.0.0.1"},
			[]string{"10.0.0.1", "2001:db8::", "2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8::4"}, true},
		{"the last of IPv6", []string{"ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/127"},
			[]string{"ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}, false},
		{"mapped", []string{"::ffff:10.0.0.1"}, []string{"10.0.0.1"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			g, err := ipgroup.Parse("servers", test.entries, ipgroup.Options{})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			more := false
			for a := range g.Addresses() {
				if more = len(got) == 6; more {
					break
				}
				if !g.Contains(a) {
					t.Errorf("%v is not in the group", a)
				}
				got = append(got, a.String())
			}
			if diff := cmp.Diff(test.want, got); diff != "" || more != test.more {
				t.Errorf("more %t (-want +got):\n%s", more, diff)
			}
		})
	}
	nowhere := func(netip.Addr) (string, bool) { return "", false }
	g, err := ipgroup.Parse("countries", []string{"CH"}, ipgroup.Options{Countries: countryFunc(nowhere)})
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Collect(g.Addresses()); got != nil {
		t.Errorf("a group of countries has addresses: %v", got)
	}
}

// countryFunc is a CountryFinder.
type countryFunc func(netip.Addr) (string, bool)

func (f countryFunc) Country(a netip.Addr) (string, bool) { return f(a) }

func ExampleGroup_Addresses() {
	g, err := ipgroup.Parse("servers", []string{"10.0.0.1-10.0.0.3"}, ipgroup.Options{})
	if err != nil {
		panic(err)
	}
	for a := range g.Addresses() {
		fmt.Println(a)
	}
	// Output:
	// 10.0.0.1
	// 10.0.0.2
	// 10.0.0.3
}
