package admin

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// An explainRequest is a request that is to be explained. It is not sent.
type explainRequest struct {
	Method  string       `json:"method,omitempty"`  // missing: GET
	URL     string       `json:"url"`               // with scheme and host
	Client  string       `json:"client,omitempty"`  // address, or address and port, of the peer; missing: 192.0.2.1
	Local   string       `json:"local,omitempty"`   // address and port where it arrives; missing: 192.0.2.2 and the port of the URL
	TLS     *bool        `json:"tls,omitempty"`     // it comes over TLS; missing: as the scheme says
	Headers []headerView `json:"headers,omitempty"` // in any order
	Body    string       `json:"body,omitempty"`    // as text
	Scripts bool         `json:"scripts,omitempty"` // run the scripts; role Operate
}

func explain(c *call) (any, error) {
	var q explainRequest
	if err := c.decode(&q); err != nil {
		return nil, err
	}
	if q.Scripts && c.caller.role < Operate {
		return nil, fail(http.StatusForbidden, codeRole, "scripts need the role %s", Operate)
	}
	// Of the context of the caller's own request only the end matters.
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	defer context.AfterFunc(c.r.Context(), cancel)()
	r, err := q.request(ctx)
	if err != nil {
		return nil, err
	}
	e, err := c.vs.ExplainRequest(r, q.Scripts)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return nil, notSupported("%v", err)
	case err != nil:
		return nil, storeFault(err)
	}
	if strings.Contains(c.r.Header.Get("Accept"), "text/plain") {
		c.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		return []byte(e.String()), nil
	}
	return e, nil
}

// request makes the request, as a server would get it.
func (q *explainRequest) request(ctx context.Context) (*http.Request, error) {
	client, err := q.client()
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, cmp.Or(q.Method, http.MethodGet), q.URL, strings.NewReader(q.Body))
	switch {
	case err != nil:
		return nil, badRequest("url", "%v", err)
	case r.URL.Host == "" || r.URL.Scheme != "http" && r.URL.Scheme != "https":
		return nil, badRequest("url", "%s is not a URL with http or https and a host", quote(q.URL))
	}
	for _, h := range q.Headers {
		if strings.EqualFold(h.Name, "Host") {
			r.Host = h.Value
		} else {
			r.Header.Add(h.Name, h.Value)
		}
	}
	r.RequestURI, r.RemoteAddr = r.URL.RequestURI(), client.String()
	encrypted := r.URL.Scheme == "https"
	if q.TLS != nil {
		encrypted = *q.TLS
	}
	if encrypted {
		r.TLS = &tls.ConnectionState{Version: tls.VersionTLS13, HandshakeComplete: true, ServerName: r.URL.Hostname()}
	}
	local, err := q.local(r)
	if err != nil {
		return nil, err
	}
	return r.WithContext(context.WithValue(ctx, http.LocalAddrContextKey, local)), nil
}

// The addresses of a request that names none (RFC 5737).
var (
	anyClient = netip.MustParseAddrPort("192.0.2.1:1234")
	anyLocal  = netip.MustParseAddr("192.0.2.2")
)

func (q *explainRequest) client() (netip.AddrPort, error) {
	if q.Client == "" {
		return anyClient, nil
	}
	if addr, err := netip.ParseAddr(q.Client); err == nil {
		return netip.AddrPortFrom(addr, anyClient.Port()), nil
	}
	addr, err := netip.ParseAddrPort(q.Client)
	if err != nil {
		return addr, badRequest("client", "%s is not an address", quote(q.Client))
	}
	return addr, nil
}

// local returns where the request arrives.
func (q *explainRequest) local(r *http.Request) (net.Addr, error) {
	text := q.Local
	if text == "" {
		port := cmp.Or(r.URL.Port(), map[bool]string{true: "443", false: "80"}[r.URL.Scheme == "https"])
		text = net.JoinHostPort(anyLocal.String(), port)
	}
	addr, err := netip.ParseAddrPort(text)
	if err != nil {
		return nil, badRequest("local", "%s is not an address and a port", quote(text))
	}
	return net.TCPAddrFromAddrPort(addr), nil
}
