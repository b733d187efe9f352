package lbpool

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

const (
	maxCheckBody    = 64 << 10 // bytes of an answer that are read
	maxCheckHeader  = 64 << 10
	keywordWindow   = 2 << 10 // bytes of a body in which a keyword must be found
	maxCheckKeyword = 512
)

// StatusRange is a range of HTTP status codes.
type StatusRange struct {
	Low  int // the first code of the range
	High int // the last, included
}

// HTTPChecker sends a request to the server and looks at the answer's status code and, if asked to, its body. It sends
// from a client of its own, a new connection for each check, follows no redirects and reads at most 64 KiB of body and
// 64 KiB of header. The zero value sends GET / and accepts 2xx. The fields must not change once it is in use.
type HTTPChecker struct {
	// Method is the request's method. Empty means GET.
	Method string
	// Path is the request's path, with a query if there is one. Empty means "/".
	Path string
	// Host is the Host header. Empty means the server's address and port.
	Host string
	// Header are further headers. User-Agent and Accept are added unless they are there.
	Header http.Header
	// Accept are the status codes that count as success. Nil means 200 to 299.
	Accept []StatusRange
	// Keyword must be found in the first 2 KiB of the body. Empty looks for nothing; at most 512 bytes.
	Keyword string
	// TLS makes the check use HTTPS with this configuration. Its ServerName should be set unless the server's
	// certificate names its IP address.
	TLS *tls.Config

	once      sync.Once
	transport *http.Transport
	target    *url.URL
	err       error
}

// Check implements Checker. Its errors are of type *CheckError.
func (c *HTTPChecker) Check(ctx context.Context, server netip.AddrPort) error {
	if err := c.validate(); err != nil {
		return &CheckError{Err: err}
	}
	// When ctx ends, the error does not tell whether the connection stood.
	var connected atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }})
	resp, err := c.transport.RoundTrip(c.request(ctx, server))
	if err != nil {
		fault := networkCheckError(err)
		if fault.Reason == CheckNoResponse && !connected.Load() && isTimeout(err) {
			fault.Reason = CheckConnectionTimeout
		}
		return fault
	}
	defer resp.Body.Close()
	accepted := slices.ContainsFunc(c.Accept, func(r StatusRange) bool {
		return r.Low <= resp.StatusCode && resp.StatusCode <= r.High
	})
	if !accepted && (c.Accept != nil || resp.StatusCode/100 != 2) {
		return &CheckError{Reason: CheckStatusMismatch, Detail: fmt.Sprintf("status %d", resp.StatusCode)}
	}
	// All of the body is read, not just where the keyword may be: a server that cannot finish an answer is not healthy.
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxCheckBody))
	if err != nil {
		return networkCheckError(err)
	}
	if !bytes.Contains(body[:min(len(body), keywordWindow)], []byte(c.Keyword)) {
		return &CheckError{Reason: CheckPayloadMismatch, Detail: fmt.Sprintf("%q not found", c.Keyword)}
	}
	return nil
}

func (c *HTTPChecker) request(ctx context.Context, server netip.AddrPort) *http.Request {
	target := *c.target
	target.Scheme, target.Host = "http", server.String()
	if c.TLS != nil {
		target.Scheme = "https"
	}
	header := c.Header.Clone()
	if header == nil {
		header = http.Header{}
	}
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
		c.transport = &http.Transport{
			TLSClientConfig:        c.TLS.Clone(),
			DisableKeepAlives:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: maxCheckHeader,
		}
	})
	return c.err
}

func (c *HTTPChecker) prepare() error {
	var faults faults
	path := c.Path
	if path == "" {
		path = "/"
	}
	var err error
	if c.target, err = url.ParseRequestURI(path); err != nil || !strings.HasPrefix(path, "/") {
		faults.add("path", "%q is not an absolute path", c.Path)
	}
	if _, err := http.NewRequest(c.Method, "/", nil); err != nil {
		faults.add("method", "%w", err)
	}
	if strings.ContainsFunc(c.Host, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '/' }) {
		faults.add("host", "%q is not a host", c.Host)
	}
	for i, r := range c.Accept {
		if r.Low < 100 || r.High > 999 || r.Low > r.High {
			faults.add(fmt.Sprintf("accept[%d]", i), "%d to %d is not a range of status codes", r.Low, r.High)
		}
	}
	if len(c.Keyword) > maxCheckKeyword {
		faults.add("keyword", "%d bytes, want at most %d", len(c.Keyword), maxCheckKeyword)
	}
	return errors.Join(faults...)
}
