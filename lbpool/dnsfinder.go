package lbpool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/internal/httpfield"
)

// DNSFinder is a Finder that looks up a name in the DNS. Every address is a
// server, whose Hostname is the name.
//
// A name that does not exist, or a DNS that does not answer, is a failure: the
// pool keeps the servers that it has.
type DNSFinder struct {
	// Name is the name to look up, with or without a port:
	// "app.example.com:8080". Without one the servers have the pool's
	// DefaultPort. With SRV it is a name such as "_http._tcp.example.com",
	// without a port. Required.
	Name string
	// SRV looks up SRV records (RFC 2782), which have ports, priorities and
	// weights, instead of addresses. The servers are those of the best
	// priority; their ratios are in proportion to the weights, within 1 to 20.
	// Targets that do not exist are left out, unless all are missing.
	SRV bool
	// Network is the kind of addresses: "ip4", "ip6", or "ip" for both. Empty
	// means "ip".
	Network string
	// Server is the configuration of the servers. Address and Name must be
	// empty. An empty Hostname means the name that is looked up; with SRV, the
	// target.
	Server ServerConfig
	// Resolver does the look-ups; a *net.Resolver fits. It is called
	// concurrently. Nil means net.DefaultResolver. After Find has returned
	// because its context is done, a look-up of a *net.Resolver may go on for
	// some seconds in a goroutine of its own.
	Resolver interface {
		// LookupNetIP returns the addresses of host, as
		// net.Resolver.LookupNetIP does.
		LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
		// LookupSRV returns the records of name, as net.Resolver.LookupSRV does
		// for an empty service and protocol.
		LookupSRV(ctx context.Context, service, proto, name string) (cname string, records []*net.SRV, err error)
	}
}

func (f *DNSFinder) validate() error {
	var faults fielderr.List
	host, _, err := f.split()
	switch {
	case err != nil:
		faults.Add("name", f.Name, err)
	case len(host) > 254 || strings.Contains(host, ":") || !httpfield.IsAuthority(host):
		faults.Addf("name", f.Name, "not a name")
	case looksLikeAddress(host):
		faults.Addf("name", f.Name, "an address, which need not be looked up")
	}
	if f.Network != "" && f.Network != "ip" && f.Network != "ip4" && f.Network != "ip6" {
		faults.Addf("network", f.Network, `none of "ip", "ip4" and "ip6"`)
	}
	if f.Server.Address != "" {
		faults.Addf("server.address", f.Server.Address, "the look-up gives the addresses")
	}
	if f.Server.Name != "" {
		faults.Addf("server.name", f.Server.Name, "a name cannot be that of several servers")
	}
	f.Server.validate("server", &faults)
	return faults.Err()
}

// split returns the host of Name, and the port or 0.
func (f *DNSFinder) split() (host string, port uint16, err error) {
	if f.SRV || !strings.Contains(f.Name, ":") {
		return f.Name, 0, nil
	}
	host, text, err := net.SplitHostPort(f.Name)
	if err != nil {
		return "", 0, errors.New("not a name with or without a port")
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return "", 0, errors.New("does not end in a port of 1 to 65535")
	}
	return host, uint16(n), nil
}

// String returns what is looked up, and a mark of the resolver unless it is the
// default one.
func (f *DNSFinder) String() string {
	text := "dns " + cmp.Or(f.Network, "ip") + " " + f.Name
	if f.SRV {
		text = "dns srv " + cmp.Or(f.Network, "ip") + " " + f.Name
	}
	if f.Resolver != nil {
		text += fmt.Sprintf(" by %p", f.Resolver)
	}
	return text
}

// Find implements Finder.
func (f *DNSFinder) Find(ctx context.Context) ([]ServerConfig, error) {
	if f.SRV {
		return f.findSRV(ctx)
	}
	host, port, err := f.split()
	if err != nil {
		return nil, &FieldError{Path: "name", Value: f.Name, Err: err}
	}
	addrs, err := f.addresses(ctx, host)
	if err != nil {
		return nil, err
	}
	return f.servers(nil, addrs, port, host, f.Server.Ratio), nil
}

func (f *DNSFinder) findSRV(ctx context.Context) ([]ServerConfig, error) {
	records, err := f.lookupSRV(ctx)
	if len(records) == 0 {
		if err == nil {
			err = fmt.Errorf("%s has no SRV records", f.Name)
		}
		return nil, err
	}
	// err reports records that are not valid; the others are.
	best := slices.MinFunc(records, func(a, b *net.SRV) int { return cmp.Compare(a.Priority, b.Priority) }).Priority
	records = slices.DeleteFunc(slices.Clone(records), func(r *net.SRV) bool { return r.Priority != best })
	if len(records) == 1 && records[0].Target == "." {
		return nil, nil // "the service is decidedly not available"
	}
	slices.SortFunc(records, func(a, b *net.SRV) int {
		return cmp.Or(strings.Compare(a.Target, b.Target), cmp.Compare(a.Port, b.Port), cmp.Compare(b.Weight, a.Weight))
	})
	ratio := ratioOf(records)
	var found []ServerConfig
	var missing error
	for i, r := range records {
		if i > 0 && r.Target == records[i-1].Target && r.Port == records[i-1].Port {
			continue
		}
		addrs, err := f.addresses(ctx, r.Target)
		var dns *net.DNSError
		switch {
		case err == nil:
			found = f.servers(found, addrs, r.Port, r.Target, ratio(r.Weight))
		case errors.As(err, &dns) && dns.IsNotFound:
			missing = err
		default:
			return nil, err
		}
	}
	if len(found) == 0 {
		return nil, missing
	}
	return found, nil
}

// servers appends one server for each address that is not there yet.
func (f *DNSFinder) servers(list []ServerConfig, addrs []netip.Addr, port uint16, host string, ratio int) []ServerConfig {
	for _, a := range addrs {
		s := f.Server
		s.Address, s.Ratio = a.String(), ratio
		if port != 0 {
			s.Address = netip.AddrPortFrom(a, port).String()
		}
		if s.Hostname == "" {
			s.Hostname = strings.TrimSuffix(host, ".")
		}
		if !slices.ContainsFunc(list, func(other ServerConfig) bool { return other.Address == s.Address }) {
			list = append(list, s)
		}
	}
	return list
}

// addresses looks up a host. The order does not depend on that of the answer,
// which changes all the time.
func (f *DNSFinder) addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	addrs, err := f.lookupNetIP(ctx, host)
	if err != nil {
		return nil, err
	}
	if len(addrs) == 0 {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	addrs = slices.Clone(addrs)
	for i, a := range addrs {
		addrs[i] = a.Unmap()
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs), nil
}

func (f *DNSFinder) lookupNetIP(ctx context.Context, host string) ([]netip.Addr, error) {
	network := cmp.Or(f.Network, "ip")
	if f.Resolver == nil {
		return net.DefaultResolver.LookupNetIP(ctx, network, host)
	}
	return f.Resolver.LookupNetIP(ctx, network, host)
}

func (f *DNSFinder) lookupSRV(ctx context.Context) ([]*net.SRV, error) {
	lookup := net.DefaultResolver.LookupSRV
	if f.Resolver != nil {
		lookup = f.Resolver.LookupSRV
	}
	_, records, err := lookup(ctx, "", "", f.Name)
	return records, err
}

// ratioOf returns the ratio for each weight of the records: the weights
// themselves if they are small or have a common factor that makes them so, else
// scaled down.
func ratioOf(records []*net.SRV) func(weight uint16) int {
	greatest, common := 0, 0
	for _, r := range records {
		greatest = max(greatest, int(r.Weight))
		common = gcd(common, int(r.Weight))
	}
	common = max(common, 1)
	top := max(greatest/common, maxRatio)
	return func(weight uint16) int {
		return max((int(weight)/common*maxRatio+top/2)/top, 1)
	}
}
