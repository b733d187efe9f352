package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/limpetlb/limpet/internal/fielderr"
)

// addresses are where a listener listens: one text, or a list of them.
type addresses []string

func (a *addresses) read(d *decoder, n *yaml.Node, path string) {
	list := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		list = n.Content
		if len(list) == 0 {
			d.fault(n, path, "an empty list")
		}
	}
	*a = make(addresses, len(list))
	for i, item := range list {
		at := path
		if n.Kind == yaml.SequenceNode {
			at = fielderr.Index(path, i)
		}
		d.value(item, reflect.ValueOf(&(*a)[i]).Elem(), at)
	}
}

// path is that of the address i in a file.
func (a addresses) path(of string, i int) string {
	if len(a) == 1 {
		return of // one in a list of one has that of the list
	}
	return fielderr.Index(of, i)
}

// listen is where to listen if there are no listeners.
func (doc *document) listen() addresses {
	if len(doc.Listen) == 0 {
		return addresses{":8080"}
	}
	return doc.Listen
}

// An address is a place to listen at. Its network and its name are those for
// [net.Listen], or fdNetwork and the name of an inherited socket. There is one
// spelling of each: ports are decimal numbers without leading zeros.
type address struct{ network, name string }

const (
	unixNetwork = "unix"
	fdNetwork   = "fd"
)

// maxUnixPath is how long the path of a Unix socket may be on all systems.
const maxUnixPath = 103

// parseAddress reads an address: host and port, "unix:/path", "unix:@name" in
// the abstract namespace of Linux, or "fd:name". The host may be a name, which
// is not looked up.
//
// An empty host means all addresses of both families, and an unspecified
// address those of its own family: net.Listen would take it for both.
func parseAddress(text string) (address, error) {
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		switch {
		case !strings.HasPrefix(path, "/") && (len(path) < 2 || path[0] != '@'):
			return address{}, fmt.Errorf("%q: want unix:/path or unix:@name", text)
		case len(path) > maxUnixPath:
			return address{}, fmt.Errorf("the name of a Unix socket has at most %d bytes, not %d", maxUnixPath, len(path))
		case strings.ContainsRune(path, 0):
			return address{}, errors.New("the name of a Unix socket has no zero bytes")
		case path[0] == '@':
			return address{unixNetwork, path}, nil
		case strings.Contains(path+"/", "/../") || filepath.Clean(path) == "/":
			return address{}, fmt.Errorf("%q: want the path of a file, without \"..\"", text)
		}
		return address{unixNetwork, filepath.Clean(path)}, nil
	}
	if name, ok := strings.CutPrefix(text, "fd:"); ok {
		if name == "" || len(name) > 255 || strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c == ':' || c > '~' }) {
			return address{}, fmt.Errorf("%q: want fd: and the name of a socket that the process inherits", text)
		}
		return address{fdNetwork, name}, nil
	}
	host, port, err := net.SplitHostPort(text)
	if _, bad := strconv.ParseUint(text, 10, 16); bad == nil {
		return address{}, fmt.Errorf("%q is a port alone: write \":%s\" for all addresses of this machine", text, text)
	}
	if err != nil {
		return address{}, err
	}
	addr, e := netip.ParseAddr(host)
	if e != nil && host != "" && (strings.Trim(host, "0123456789.") == "" || strings.ContainsAny(host, ": /")) {
		return address{}, fmt.Errorf("%q is not an address", host)
	}
	number, err := net.LookupPort("tcp", port)
	if err != nil {
		return address{}, err
	}
	if host = strings.ToLower(host); e == nil {
		addr = addr.Unmap()
		host = addr.String()
	}
	name := net.JoinHostPort(host, strconv.Itoa(number))
	switch addr {
	case netip.IPv4Unspecified():
		return address{"tcp4", name}, nil
	case netip.IPv6Unspecified():
		return address{"tcp6", name}, nil
	}
	return address{"tcp", name}, nil
}

// isFixed reports whether two listeners cannot both have the address: it names
// a port, and does not leave the choice to the system.
func (a address) isFixed() bool {
	return !strings.HasPrefix(a.network, "tcp") || !strings.HasSuffix(a.name, ":0")
}

// slot is the same for addresses that may overlap: their port, or the last part
// of their path.
func (a address) slot() string {
	if strings.HasPrefix(a.network, "tcp") {
		_, port, _ := net.SplitHostPort(a.name)
		return "port " + port
	}
	return a.network + " " + filepath.Base(a.name)
}

// overlaps reports whether only one of two addresses can be opened, as far as
// their texts tell it. On Linux, all addresses of a family and one of them
// overlap; other systems may allow it, and then either may get a client. Host
// names are not looked up.
func (a address) overlaps(b address) bool {
	switch {
	case !a.isFixed() || !b.isFixed() || a.slot() != b.slot():
		return false
	case a == b:
		return true
	case a.isFile() && b.isFile():
		return sameDirectory(filepath.Dir(a.name), filepath.Dir(b.name))
	case !strings.HasPrefix(a.network, "tcp") || !strings.HasPrefix(b.network, "tcp"):
		return false
	}
	return a.covers(b) || b.covers(a)
}

// covers reports whether b, which has the same port, is among the addresses
// that a stands for.
func (a address) covers(b address) bool {
	host, _, _ := net.SplitHostPort(a.name)
	if host == "" {
		return true
	}
	other, _, _ := net.SplitHostPort(b.name)
	addr, err := netip.ParseAddr(other)
	return err == nil && (a.network == "tcp4" && addr.Is4() || a.network == "tcp6" && addr.Is6())
}

// sameDirectory reports whether two paths are those of one directory.
func sameDirectory(a, b string) bool {
	first, err := os.Stat(a)
	second, err2 := os.Stat(b)
	return a == b || err == nil && err2 == nil && os.SameFile(first, second)
}

// isFile reports whether the address is a Unix socket that is a file.
func (a address) isFile() bool { return a.network == unixNetwork && !strings.HasPrefix(a.name, "@") }
