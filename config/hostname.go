package config

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/limpetlb/limpet/internal/bounds"
	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/lbpool"
)

// A server whose address is a host name is short for a discovery that looks the
// name up, and has the fields of the server. So the servers of a file are both
// servers and discoveries of an [lbpool.Config], and a relocation has the paths
// in the file for those of the library.

// A serverConfig is a server with an IP address, or one for each address of a
// host name.
type serverConfig struct {
	lbpool.ServerConfig
	// Address is an IP address or a host name, with or without a port. Each
	// address of a host name is a server; then there can be no Name.
	Address string
}

// resolving is how often the host names of servers are looked up.
type resolving struct {
	// ResolveInterval is how long after an answer the host names of servers are
	// looked up again, at most an hour. After a failure it is a second, then
	// two, and so on up to ResolveInterval. 0 means 30 seconds.
	ResolveInterval time.Duration `default:"30s" min:"0s" max:"1h"`
}

// A relocation has paths in a file, by those of the library in the same pool.
type relocation map[string]string

// localhost is the address of that name, which is not looked up.
const localhost = "127.0.0.1"

// servers adds the servers of pc, and the discoveries of their host names, to
// cfg. Discoveries of the file come first.
func (b *builder) servers(cfg *lbpool.Config, pc *poolConfig, path string) relocation {
	var faults fielderr.List
	bounds.Check("", pc.resolving, &faults)
	b.fault(faults.Err(), "%s", path)
	interval := pc.ResolveInterval
	if faults.Len() > 0 {
		interval = 0
	}
	moved := relocation{}
	first := map[string]string{} // the path that has a host name
	for i, sc := range pc.Servers {
		s, at := sc.ServerConfig, fielderr.Index("servers", i)
		s.Address = sc.Address
		host, port, ok := hostName(sc.Address)
		if ok && strings.EqualFold(strings.TrimSuffix(host, "."), "localhost") {
			if s.Address, ok = localhost+port, false; s.Hostname == "" {
				s.Hostname = "localhost"
			}
		}
		if !ok {
			moved[fielderr.Index("servers", len(cfg.Servers))] = at
			cfg.Servers = append(cfg.Servers, s)
			continue
		}
		name := strings.ToLower(sc.Address)
		if other, taken := first[name]; taken {
			b.fault(fmt.Errorf("already the address of %s", other), "%s.%s.address", path, at)
			continue
		}
		first[name] = at
		s.Address = ""
		from := fielderr.Index("discoveries", len(cfg.Discoveries))
		moved[from], moved[from+".finder.server"] = at+".address", at
		cfg.Discoveries = append(cfg.Discoveries, lbpool.Discovery{
			Name: sc.Address, Interval: interval,
			Finder: &lbpool.DNSFinder{Name: sc.Address, Server: s},
		})
	}
	return moved
}

// hostName takes apart the address of a server; false if it is no host name.
// The port has its colon, and may not be one.
func hostName(address string) (host, port string, ok bool) {
	host = address
	if i := strings.IndexByte(address, ':'); i >= 0 {
		host, port = address[:i], address[i:]
	}
	if _, err := netip.ParseAddr(host); err == nil || strings.ContainsAny(strings.TrimPrefix(port, ":"), ":/") || len(host) > 254 {
		return "", "", false
	}
	labels := strings.Split(strings.TrimSuffix(host, "."), ".")
	for _, label := range labels {
		bad := label == "" || len(label) > 63
		for _, c := range label {
			bad = bad || (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_'
		}
		if bad {
			return "", "", false
		}
	}
	// No name ends in a label of digits; see RFC 1123, 2.1.
	return host, port, strings.Trim(labels[len(labels)-1], "0123456789") != ""
}

var inText = regexp.MustCompile(`\b(servers|discoveries)\[\d+\]`)

// of returns err, one of the library about a pool, with the paths that the file
// has.
func (r relocation) of(err error) error {
	return fielderr.Map(err, func(err error) error {
		fault, ok := err.(*fielderr.Error) //nolint:errorlint // as the library returns it
		if !ok {
			return err
		}
		moved := &fielderr.Error{Path: r.path(fault.Path), Value: fault.Value, Err: fault.Err}
		was := fault.Err.Error()
		text := inText.ReplaceAllStringFunc(was, func(at string) string { return strings.TrimSuffix(r.path(at), ".address") })
		switch {
		case fault.Path == "discoveries" && slices.ContainsFunc(slices.Collect(maps.Values(r)), aboutName):
			moved.Path, text = "servers", was+"; each host name is one"
		case aboutName(moved.Path):
			moved.Value = inFile{}
			if strings.HasPrefix(was, "not an IP address") {
				text += ", nor a host name"
			}
			if value, ok := fault.Value.(string); ok && strings.Contains(value, "://") {
				text += "; write https as scheme of the pool, and the address without it"
			}
		}
		if text != was {
			moved.Err = errors.New(text)
		}
		return moved
	})
}

// path is what a file has in place of a path of the library.
func (r relocation) path(path string) string {
	for from := path; from != ""; from = outer(from) {
		switch to, ok := r[from]; {
		case ok && aboutName(to):
			return to // whatever it is, it is about the name
		case ok:
			return to + path[len(from):]
		}
	}
	return path
}

// aboutName reports whether a path is that of the address of a server.
func aboutName(path string) bool { return strings.HasSuffix(path, "].address") }
