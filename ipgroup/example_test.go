package ipgroup_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/limpetlb/limpet/ipgroup"
)

// A group of addresses, ranges and networks.
func Example() {
	blacklist, err := ipgroup.Parse("Blacklist", []string{
		"192.0.2.7",
		"198.51.100.10-198.51.100.20",
		"203.0.113.0/24, 2001:db8::/32",
	}, ipgroup.Options{})
	if err != nil {
		log.Fatal(err)
	}
	for _, client := range []string{"192.0.2.7", "198.51.100.21", "::ffff:203.0.113.9", "2001:db8::1"} {
		fmt.Println(client, blacklist.Contains(netip.MustParseAddr(client)))
	}
	// Output:
	// 192.0.2.7 true
	// 198.51.100.21 false
	// ::ffff:203.0.113.9 true
	// 2001:db8::1 true
}

// A list with a bad line is refused as a whole; the error says where the fault
// is.
func ExampleRead() {
	const list = `# offices
192.0.2.0/24, 198.51.100.7
203.0.113.300
`
	_, err := ipgroup.Read("Office", strings.NewReader(list), ipgroup.Options{})
	fmt.Println(err)

	if bad, ok := errors.AsType[*ipgroup.EntryError](err); ok {
		fmt.Println(bad.Line, bad.Text)
	}
	// Output:
	// ip group "Office": line 3, column 1: "203.0.113.300" is not an address, range, prefix, country code or AS number
	// 3 203.0.113.300
}

// A new list replaces the old one while requests go on.
func ExampleSet_Replace() {
	first, err := ipgroup.Parse("Blacklist", []string{"192.0.2.7"}, ipgroup.Options{})
	if err != nil {
		log.Fatal(err)
	}
	groups, err := ipgroup.NewSet(first)
	if err != nil {
		log.Fatal(err)
	}
	client := netip.MustParseAddr("198.51.100.9")
	denied, err := groups.Contains("Blacklist", client)
	fmt.Println(denied, err)

	second, err := ipgroup.Parse("Blacklist", []string{"192.0.2.7, 198.51.100.0/24"}, ipgroup.Options{})
	if err != nil {
		log.Fatal(err) // a program would keep the first list and report the fault
	}
	if err := groups.Replace(second); err != nil {
		log.Fatal(err)
	}
	denied, err = groups.Contains("Blacklist", client)
	fmt.Println(denied, err)

	_, err = groups.Contains("Whitelist", client)
	fmt.Println(errors.Is(err, ipgroup.ErrUnknownGroup), err)
	// Output:
	// false <nil>
	// true <nil>
	// true unknown ip group "Whitelist"
}

// A blacklist in a file that others keep, while the program runs.
func ExampleWatcher() {
	dir, err := os.MkdirTemp("", "ipgroup")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "blacklist.csv") // for example /etc/limpet/blacklist.csv
	if err := os.WriteFile(path, []byte("192.0.2.0/24 # a scanner\n"), 0o600); err != nil {
		log.Fatal(err)
	}

	groups := new(ipgroup.Set)
	watcher, err := ipgroup.NewWatcher(groups, []ipgroup.File{{Group: "Blacklist", Path: path}}, func(e ipgroup.FileEvent) {
		if e.Err != nil {
			log.Print("the old list remains: ", e.Err) // names every bad line
		}
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- watcher.Run(ctx) }()

	fmt.Println(groups.Contains("Blacklist", netip.MustParseAddr("192.0.2.66")))

	stop()
	fmt.Println(<-done)
	// Output:
	// true <nil>
	// <nil>
}

// Labels of addresses, for logs.
func ExampleSet_Label() {
	company, err := ipgroup.Parse("Company", []string{"10.0.0.0/8", "192.0.2.0/24"}, ipgroup.Options{})
	if err != nil {
		log.Fatal(err)
	}
	office, err := ipgroup.Parse("LA_Office", []string{"10.1.0.0/16"}, ipgroup.Options{})
	if err != nil {
		log.Fatal(err)
	}
	groups, err := ipgroup.NewSet(company, office)
	if err != nil {
		log.Fatal(err)
	}
	for _, client := range []string{"10.1.2.3", "10.2.2.3", "192.168.0.1"} {
		fmt.Println(client, groups.Label(netip.MustParseAddr(client), nil))
	}
	// Output:
	// 10.1.2.3 LA_Office
	// 10.2.2.3 Company
	// 192.168.0.1 Internal
}
