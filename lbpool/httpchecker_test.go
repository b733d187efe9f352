package lbpool

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// What a checker cannot send as it is meant is a fault of its configuration.
// It was accepted, and then each check failed, or asked for something else.
func TestHTTPCheckerSendsWhatIsMeant(t *testing.T) {
	var got *http.Request
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Clone(r.Context()) }))
	defer server.Close()
	header := func(name, value string) http.Header { return http.Header{name: {value}} }
	for _, c := range []struct {
		checker *HTTPChecker
		want    string // the fault; empty if there is none
	}{
		{&HTTPChecker{Path: "//x?a=b"}, ""},
		{&HTTPChecker{Path: "/a%20b/%2F?c=%23&d"}, ""},
		{&HTTPChecker{Path: "/a?"}, ""},
		{&HTTPChecker{Path: "/a;b=c/../d", Method: "OPTIONS"}, ""},
		{&HTTPChecker{Path: "/x", Host: "shop.example.com:8443", Header: header("x-token", "a\tb")}, ""},
		{&HTTPChecker{Path: "/x", Host: "[2001:db8::1]:80", Header: header("Authorization", "Basic YTpi")}, ""},
		{&HTTPChecker{Path: "//x?a b"}, "path: "},
		{&HTTPChecker{Path: "/x y"}, "path: "},
		{&HTTPChecker{Path: "/x#y"}, "path: "},
		{&HTTPChecker{Path: "/x%"}, "path: "},
		{&HTTPChecker{Path: "/x\r\nA: b"}, "path: "},
		{&HTTPChecker{Path: "/x\x00"}, "path: "},
		{&HTTPChecker{Path: "/x?\x7f"}, "path: "},
		{&HTTPChecker{Path: "http://a/"}, "path: "},
		{&HTTPChecker{Method: "CONNECT"}, "method: "},
		{&HTTPChecker{Method: "GET\n"}, "method: "},
		{&HTTPChecker{Method: "HEAD", Keyword: "ok"}, "keyword: "},
		{&HTTPChecker{Method: "HEAD", MaintenanceKeyword: "ok"}, "maintenanceKeyword: "},
		{&HTTPChecker{Host: "a\x01"}, "host: "},
		{&HTTPChecker{Host: "a?b"}, "host: "},
		{&HTTPChecker{Host: "u@a"}, "host: "},
		{&HTTPChecker{Host: "a:99999"}, "host: "},
		{&HTTPChecker{Host: "bücher.example"}, "host: "},
		{&HTTPChecker{Header: header("Connection", "close")}, `header["Connection"]: `},
		{&HTTPChecker{Header: header("keep-alive", "1")}, `header["keep-alive"]: `},
		{&HTTPChecker{Header: header("Host", "a")}, `header["Host"]: the field host takes its place`},
		{&HTTPChecker{Header: header("Content-Length", "1")}, `header["Content-Length"]: `},
		{&HTTPChecker{Header: header("transfer-encoding", "chunked")}, `header["transfer-encoding"]: `},
		{&HTTPChecker{Header: header("Upgrade", "x")}, `header["Upgrade"]: `},
		{&HTTPChecker{Header: header("A B", "x")}, `header["A B"]: `},
		{&HTTPChecker{Header: header("", "x")}, `header[""]: `},
		{&HTTPChecker{Header: header("A", "x\ny")}, `header["A"]: `},
		{&HTTPChecker{Header: http.Header{"a": {"b"}, "A": {"c"}}}, `header["a"]: given twice`},
	} {
		_, err := New(Config{Name: "web", Servers: []ServerConfig{{Address: "192.0.2.1"}}, HealthMonitors: []HealthMonitor{{Checker: c.checker}}})
		if c.want != "" {
			if want := "healthMonitors[0].checker." + c.want; err == nil || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("%q %q %q %q: %v, want %s", c.checker.Method, c.checker.Path, c.checker.Host, c.checker.Header, err, want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q %q: %v", c.checker.Path, c.checker.Header, err)
			continue
		}
		if err := c.checker.Check(t.Context(), address(server)); err != nil {
			t.Errorf("%q %q: %v", c.checker.Path, c.checker.Header, err)
			continue
		}
		if got.RequestURI != c.checker.Path || c.checker.Host != "" && got.Host != c.checker.Host {
			t.Errorf("sent %q to %q, want %q to %q", got.RequestURI, got.Host, c.checker.Path, c.checker.Host)
		}
		for name, values := range c.checker.Header {
			if sent := got.Header.Values(name); !slices.Equal(sent, values) {
				t.Errorf("%s: sent %q, want %q", name, sent, values)
			}
		}
	}
}

// Names that no resolver can look up were accepted.
func TestDNSFinderNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"a.example.com": true, "_http._tcp.example.com": true, "a.example.com.": true, "a.example.com:80": true,
		"a\x1b": false, "a\u202e.example": false, "a..b": false, "a b": false, "a,b": false, "": false,
	} {
		if err := (&DNSFinder{Name: name}).validate(); (err == nil) != ok {
			t.Errorf("%s: %v", fmt.Sprintf("%q", name), err)
		}
	}
}
