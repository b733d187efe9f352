// Package prioritylabel finds the priority label of a pool group that fits the
// one that is asked for: the service and its test kit decide alike.
package prioritylabel

import (
	"fmt"
	"strings"
)

// Rules say how labels are found.
type Rules struct {
	// Implicit lets a label such as "a.example/foo" stand for all below: of the
	// labels whose host is that of the one asked for, without regard to case
	// and port, the one with the longest path applies that is a prefix of the
	// other path, up to a slash or its end. A label without a path, or with
	// "/", is for every path of its host.
	Implicit bool
	// Fallback is the label that applies when no other does; empty means none.
	Fallback string
}

// Check reports labels that Implicit cannot tell apart.
func (r Rules) Check(labels []string) error {
	if !r.Implicit {
		return nil
	}
	for i, a := range labels {
		for _, b := range labels[:i] {
			hostA, pathA := split(a)
			hostB, pathB := split(b)
			if a != b && strings.EqualFold(hostA, hostB) && pathA == pathB {
				return fmt.Errorf("labels %q and %q are for the same host and path", b, a)
			}
		}
	}
	return nil
}

// Find returns the label of labels that applies to the one asked for.
func (r Rules) Find(labels func(yield func(label string) bool), asked string) (label string, ok bool) {
	for l := range labels {
		if l == asked {
			return l, true
		}
	}
	if r.Implicit {
		longest := -1
		host, path := split(asked)
		for l := range labels {
			h, p := split(l)
			if len(p) > longest && strings.EqualFold(h, host) && covers(p, path) {
				label, longest = l, len(p)
			}
		}
		if longest >= 0 {
			return label, true
		}
	}
	return r.Fallback, r.Fallback != ""
}

// split returns the host without a port, and the path with its slash. An empty
// path is the root.
func split(label string) (host, path string) {
	host, path = label, "/"
	if i := strings.IndexByte(label, '/'); i >= 0 {
		host, path = label[:i], label[i:]
	}
	if i := strings.LastIndexByte(host, ':'); i >= 0 && (strings.IndexByte(host, ':') == i || strings.HasSuffix(host[:i], "]")) {
		host = host[:i]
	}
	return host, path
}

// covers reports whether a path is prefix or below it.
func covers(prefix, path string) bool {
	rest, ok := strings.CutPrefix(path, prefix)
	return ok && (rest == "" || strings.HasSuffix(prefix, "/") || rest[0] == '/')
}
