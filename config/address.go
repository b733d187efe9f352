package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
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
// [net.Listen], or fdNetwork and the name of an inherited socket.
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
		}
		return address{unixNetwork, path}, nil
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
	if _, err := net.LookupPort("tcp", port); err != nil {
		return address{}, err
	}
	switch {
	case addr == netip.IPv4Unspecified():
		return address{"tcp4", text}, nil
	case addr == netip.IPv6Unspecified():
		return address{"tcp6", text}, nil
	}
	return address{"tcp", text}, nil
}

// isFixed reports whether two listeners cannot both have the address: it names
// a port, and does not leave the choice to the system.
func (a address) isFixed() bool { return !strings.HasSuffix(a.name, ":0") }

// isFile reports whether the address is a Unix socket that is a file.
func (a address) isFile() bool { return a.network == unixNetwork && !strings.HasPrefix(a.name, "@") }
