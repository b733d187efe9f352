// Package policy uses forbidden names of the standard library.
package policy

import (
	"net/http"
	"net/http/httputil"
	"time"
)

func proxy(p *httputil.ReverseProxy) *httputil.ReverseProxy {
	p.Director = nil
	p.Rewrite = nil
	p.Transport = http.DefaultTransport
	_, _ = http.DefaultClient.Get("")
	return &httputil.ReverseProxy{Director: nil}
}

func lifetime(seconds float64, count int) time.Duration {
	const half = 0.5e9
	time.Sleep(time.Duration(half) + time.Duration(count))
	return time.Duration(seconds * 1e9)
}

type other struct{ Director, DefaultTransport int }

var _ = other{Director: 1}.DefaultTransport
