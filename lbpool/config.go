package lbpool

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"strings"
	"time"
)

// New validates cfg and makes a pool of it. It starts nothing: health monitors check while Run is running. The error
// joins every fault that was found, each with the path of its field.
func New(cfg Config) (*Pool, error) {
	var faults faults
	p := &Pool{
		name:      cfg.Name,
		scheme:    cfg.Scheme,
		algorithm: cfg.Algorithm,
		passive:   cfg.Passive.withDefaults(),
		repick:    cfg.Repick,
		reselect:  cfg.Reselect,
		logger:    cfg.Logger,
		noServer:  fmt.Errorf("pool %q: %w", cfg.Name, ErrNoServer),
		byAddr:    make(map[netip.AddrPort]*Server, len(cfg.Servers)),
		byHost:    make(map[netip.Addr][]*Server, len(cfg.Servers)),
		byName:    make(map[string][]*Server, 2*len(cfg.Servers)),
	}
	if p.name == "" {
		faults.add("name", "must not be empty")
	}
	if p.scheme == "" {
		p.scheme = "http"
	}
	if p.algorithm == nil {
		p.algorithm = LeastConnections()
	}
	if p.logger == nil {
		p.logger = slog.New(slog.DiscardHandler)
	}
	if p.scheme != "http" && p.scheme != "https" {
		faults.add("scheme", "%q is neither http nor https", cfg.Scheme)
	}
	port := cfg.DefaultPort
	switch {
	case port == 0 && p.scheme == "https":
		port = 443
	case port == 0:
		port = 80
	}
	if p.repick > RepickNever {
		faults.add("repick", "%d is not a known value", p.repick)
	}
	p.passive.validate(&faults)
	monitors := validMonitors(cfg.HealthMonitors, &faults)
	p.addServers(cfg.Servers, port, monitors, &faults)
	if len(faults) > 0 {
		return nil, fmt.Errorf("pool %q: %w", cfg.Name, errors.Join(faults...))
	}
	p.edit(time.Now(), CauseConfigured, "", nil, func() bool { return true })
	return p, nil
}

func (p *Pool) addServers(configs []ServerConfig, port uint16, monitors []HealthMonitor, faults *faults) {
	if n := len(configs); n == 0 || n > MaxServers {
		faults.add("servers", "%d servers, want 1 to %d", n, MaxServers)
		return
	}
	owner := make(map[string]string, len(configs)) // of names: the path that took it
	for i, c := range configs {
		path := fmt.Sprintf("servers[%d]", i)
		addr, err := parseServer(c.Address, port)
		if err != nil {
			faults.add(path+".address", "%w", err)
		}
		s := newServer(p, addr, c, monitors)
		if c.Name != "" && looksLikeAddress(c.Name) {
			faults.add(path+".name", "%q reads as an IP address", c.Name)
		}
		if c.Hostname != "" && looksLikeAddress(c.Hostname) {
			faults.add(path+".hostname", "%q reads as an IP address", c.Hostname)
		}
		if c.Ratio < 0 || c.Ratio > MaxRatio {
			faults.add(path+".ratio", "%d is not within 1 to %d", c.Ratio, MaxRatio)
		}
		if c.MaxConnections < 0 {
			faults.add(path+".max_connections", "%d is negative", c.MaxConnections)
		}
		key := strings.ToLower(s.name)
		if first, taken := owner[key]; taken && c.Name != "" {
			faults.add(path+".name", "%q is already the name of %s", c.Name, first)
		}
		if err != nil {
			continue
		}
		if _, taken := p.byAddr[addr]; taken {
			faults.add(path+".address", "%q is already the address of another server, %s", c.Address, addr)
			continue
		}
		owner[key] = path
		p.servers = append(p.servers, s)
		p.byAddr[addr] = s
		p.byHost[addr.Addr()] = append(p.byHost[addr.Addr()], s)
		p.byName[key] = append(p.byName[key], s)
	}
	for _, s := range p.servers { // after the names, which take precedence
		if host := strings.ToLower(s.hostname); host != "" && host != strings.ToLower(s.name) {
			p.byName[host] = append(p.byName[host], s)
		}
	}
}

// parseServer reads an address with or without a port.
func parseServer(text string, port uint16) (netip.AddrPort, error) {
	addr, err := parseAddr(text)
	if err != nil {
		both, err := netip.ParseAddrPort(text)
		if err != nil {
			return netip.AddrPort{}, fmt.Errorf("%q is not an IP address with or without a port", text)
		}
		addr, port = both.Addr(), both.Port()
	}
	if port == 0 {
		return netip.AddrPort{}, fmt.Errorf("%q has port 0", text)
	}
	addr = addr.Unmap()
	if addr.IsUnspecified() || addr.IsMulticast() {
		return netip.AddrPort{}, fmt.Errorf("%q is not the address of one server", text)
	}
	return netip.AddrPortFrom(addr, port), nil
}

// parseAddr reads an address, which may stand in brackets as it does before a port.
func parseAddr(text string) (netip.Addr, error) {
	if inner, ok := strings.CutPrefix(text, "["); ok {
		if inner, ok = strings.CutSuffix(inner, "]"); ok {
			text = inner
		}
	}
	return netip.ParseAddr(text)
}

func looksLikeAddress(text string) bool {
	_, err := parseServer(text, 80)
	return err == nil
}

// faults collects what is wrong with a configuration.
type faults []error

func (f *faults) add(path, format string, args ...any) {
	*f = append(*f, fmt.Errorf(path+": "+format, args...))
}

// isNil reports whether v is nil or an interface that holds a nil pointer.
func isNil(v any) bool {
	if v == nil {
		return true
	}
	r := reflect.ValueOf(v)
	return r.Kind() == reflect.Pointer && r.IsNil()
}
