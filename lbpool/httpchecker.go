package lbpool

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/internal/http1"
	"github.com/limpetlb/limpet/internal/httpfield"
)

const (
	maxCheckBody    = 64 << 10 // bytes of a response that are read
	maxCheckHeader  = 64 << 10
	keywordWindow   = 2 << 10 // bytes of a body that are searched for a keyword
	maxCheckKeyword = 512
)

// StatusRange is a range of HTTP status codes.
type StatusRange struct {
	Begin int // the first code of the range
	End   int // the last, included
}

// HTTPChecker sends a request to the server and checks the status code of the
// response and, with Keyword, its body. It uses its own client, with a new
// connection for each check, follows no redirects and reads at most 64 KiB of
// body and 64 KiB of header. It speaks the pool's Protocol if it checks the
// server's own port, HTTP/2 over TLS only if TLS is set; else it speaks
// HTTP/1.1. The zero value sends GET / and accepts 2xx. Do not change the
// fields after the first use.
type HTTPChecker struct {
	// Method is the request's method. Empty means GET.
	Method string
	// Path is the request's path, with a query if needed: as it stands in the
	// request, without blanks and "#". Empty means "/".
	Path string
	// Host is the Host header: a name or an address, with or without a port.
	// Empty means the server's address and port.
	Host string
	// Header are further headers, in any letter case. User-Agent and Accept are
	// added if missing. Host has a field of its own, and headers that frame
	// messages or belong to one connection, such as Connection and
	// Content-Length, are faults.
	Header http.Header
	// Accept are the status codes of success. Nil means 200 to 299.
	Accept []StatusRange
	// Keyword must occur in the first 2 KiB of the body; at most 512 bytes.
	// Empty means any body.
	Keyword string
	// Maintenance are the status codes by which a server reports that it is
	// under maintenance: it gets no requests from then on, without a failure,
	// until a check succeeds. Nil means none.
	Maintenance []StatusRange
	// MaintenanceKeyword reports the same if it occurs in the first 2 KiB of
	// the body, whatever the status; at most 512 bytes. Empty means none.
	MaintenanceKeyword string
	// TLS makes the check use HTTPS with this configuration. If it has no
	// ServerName, the host in Host is sent as the server name (SNI) and
	// verified. If Host is empty or an address, no name is sent and the
	// certificate must be valid for the server's IP address.
	TLS *tls.Config

	once      sync.Once
	transport *http1.Switch
	target    *url.URL
	header    http.Header // with canonical names
	err       error
}

// Check implements Checker. Its errors are of type *CheckError.
func (c *HTTPChecker) Check(ctx context.Context, server netip.AddrPort) error {
	if err := c.validate(); err != nil {
		return &CheckError{Reason: checkOther, Err: err}
	}
	// When ctx ends, the error does not say whether there was a connection.
	var connected atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }})
	resp, err := c.transport.RoundTrip(c.request(ctx, server))
	if err != nil {
		fault := networkCheckError(err)
		if fault.Reason == checkNoResponse && !connected.Load() && isTimeout(err) {
			fault.Reason = checkConnectionTimeout
		}
		return fault
	}
	defer resp.Body.Close()
	status := fmt.Sprintf("status %d", resp.StatusCode)
	if within(c.Maintenance, resp.StatusCode) {
		return &CheckError{Reason: CheckMaintenance, Detail: status}
	}
	accepted := within(c.Accept, resp.StatusCode) || c.Accept == nil && resp.StatusCode/100 == 2
	if !accepted && c.MaintenanceKeyword == "" {
		return &CheckError{Reason: checkStatusMismatch, Detail: status}
	}
	// All of the body is read, since a server that cannot finish a response is
	// not healthy.
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxCheckBody))
	window := body[:min(len(body), keywordWindow)]
	switch {
	case c.MaintenanceKeyword != "" && bytes.Contains(window, []byte(c.MaintenanceKeyword)):
		return &CheckError{Reason: CheckMaintenance, Detail: fmt.Sprintf("%q found", c.MaintenanceKeyword)}
	case !accepted:
		return &CheckError{Reason: checkStatusMismatch, Detail: status}
	case err != nil:
		return networkCheckError(err)
	case !bytes.Contains(window, []byte(c.Keyword)):
		return &CheckError{Reason: checkPayloadMismatch, Detail: fmt.Sprintf("%q not found", c.Keyword)}
	}
	return nil
}

// within reports whether a status code is in one of the ranges.
func within(ranges []StatusRange, status int) bool {
	return slices.ContainsFunc(ranges, func(r StatusRange) bool { return r.Begin <= status && status <= r.End })
}

func (c *HTTPChecker) request(ctx context.Context, server netip.AddrPort) *http.Request {
	target := *c.target
	target.Scheme, target.Host = "http", server.String()
	if c.TLS != nil {
		target.Scheme = "https"
	}
	header := c.header.Clone()
	for key, value := range map[string]string{"User-Agent": "limpet-health-monitor", "Accept": "*/*"} {
		if _, set := header[key]; !set {
			header.Set(key, value)
		}
	}
	r := &http.Request{Method: c.Method, URL: &target, Host: c.Host, Header: header}
	return r.WithContext(ctx)
}

// validate checks the fields, once, and makes the client.
func (c *HTTPChecker) validate() error {
	c.once.Do(func() {
		c.err = c.prepare()
		c.transport = http1.NewSwitch(&http.Transport{
			TLSClientConfig:        c.tlsConfig(),
			DisableKeepAlives:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: maxCheckHeader,
		})
	})
	return c.err
}

// tlsConfig is TLS with the server's name added.
func (c *HTTPChecker) tlsConfig() *tls.Config {
	config := c.TLS.Clone()
	if config == nil || config.ServerName != "" {
		return config
	}
	name := (&url.URL{Host: c.Host}).Hostname()
	if _, err := netip.ParseAddr(name); err != nil {
		config.ServerName = name
	}
	return config
}

func (c *HTTPChecker) prepare() error {
	var faults fielderr.List
	path := cmp.Or(c.Path, "/")
	var err error
	switch c.target, err = url.ParseRequestURI(path); {
	case !strings.HasPrefix(path, "/"):
		faults.Addf("path", c.Path, "not an absolute path")
	case err != nil || !httpfield.IsTarget(path):
		faults.Addf("path", c.Path, "cannot be sent: blanks, control characters, \"#\" and other \"%%\" must be percent-encoded")
	}
	switch {
	case c.Method == http.MethodConnect:
		faults.Addf("method", c.Method, "asks for a tunnel, and not for a path")
	case c.Method != "" && !httpfield.IsToken(c.Method):
		faults.Addf("method", c.Method, "not a method")
	case c.Method == http.MethodHead && c.Keyword != "":
		faults.Addf("keyword", nil, "a response to HEAD has no body")
	case c.Method == http.MethodHead && c.MaintenanceKeyword != "":
		faults.Addf("maintenanceKeyword", nil, "a response to HEAD has no body")
	}
	if c.Host != "" && !httpfield.IsAuthority(c.Host) {
		faults.Addf("host", c.Host, "not a host, with or without a port")
	}
	c.header = validHeader(c.Header, &faults)
	validRanges(c.Accept, "accept", 100, 999, &faults)
	validRanges(c.Maintenance, "maintenance", 100, 999, &faults)
	if len(c.Keyword) > maxCheckKeyword {
		faults.Addf("keyword", nil, "%d bytes, more than %d", len(c.Keyword), maxCheckKeyword)
	}
	if len(c.MaintenanceKeyword) > maxCheckKeyword {
		faults.Addf("maintenanceKeyword", nil, "%d bytes, more than %d", len(c.MaintenanceKeyword), maxCheckKeyword)
	}
	return faults.Err()
}

// validHeader returns a header with canonical names, and adds the faults of
// what cannot be sent so.
func validHeader(given http.Header, faults *fielderr.List) http.Header {
	header := make(http.Header, len(given))
	for _, name := range slices.Sorted(maps.Keys(given)) {
		path, key := fielderr.Key("header", name), http.CanonicalHeaderKey(name)
		_, twice := header[key]
		switch {
		case !httpfield.IsToken(name):
			faults.Addf(path, nil, "not the name of a header")
		case key == "Host":
			faults.Addf(path, nil, "the field host takes its place")
		case httpfield.IsFraming(key):
			faults.Addf(path, nil, "belongs to the connection, and cannot be set")
		case twice:
			faults.Addf(path, nil, "given twice, in another letter case")
		case slices.ContainsFunc(given[name], func(v string) bool { return !httpfield.IsValue(v) }):
			faults.Addf(path, nil, "has characters that cannot be sent") // the value may be a secret
		}
		header[key] = slices.Clone(given[name])
	}
	return header
}

func validRanges(ranges []StatusRange, path string, low, high int, faults *fielderr.List) {
	for i, r := range ranges {
		if r.Begin < low || r.End > high || r.Begin > r.End {
			faults.Addf(fielderr.Index(path, i), nil, "%d to %d is not a range from %d to %d", r.Begin, r.End, low, high)
		}
	}
}
