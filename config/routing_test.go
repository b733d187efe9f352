package config

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/cputime"
	"github.com/limpetlb/limpet/internal/testcerts"
	"github.com/limpetlb/limpet/internal/testfiles"
	"github.com/limpetlb/limpet/internal/testrace"
)

const (
	routedServices  = 100
	routedNames     = 1000 // of all services
	routedListeners = 10
)

// routed returns a runtime with many services, names and listeners. Each
// service has a name of each kind: exact ones, and one below a "*.".
func routed(t testing.TB) *Runtime {
	authority, files := testcerts.NewAuthority(t, "test"), map[string]string{}
	var text strings.Builder
	text.WriteString("listeners:\n")
	for i := range routedListeners {
		fmt.Fprintf(&text, "  - {name: l%d, address: '127.0.0.1:0', tls: {directory: certs}}\n", i)
	}
	text.WriteString("services:\n")
	for i := range routedServices {
		names := []string{fmt.Sprintf("*.s%d.example.com", i)}
		for n := range routedNames/routedServices - 1 {
			names = append(names, fmt.Sprintf("n%d.s%d.example.org", n, i))
		}
		c := authority.Issue(t, nil, names...)
		files[fmt.Sprintf("certs/%d.pem", i)] = c.PEM() + c.KeyPEM(t)
		fmt.Fprintf(&text, "  - {name: s%d, hosts: ['%s'], httpSecurity: [{name: a, action: {respond: {status: 200}}}]}\n", i, strings.Join(names, "', '"))
	}
	files["limpet.yaml"] = text.String()
	f, err := Load(t.Context(), testfiles.Write(t, files)+"/limpet.yaml")
	if err != nil {
		t.Fatal(err)
	}
	rt, err := f.Build(Options{})
	if err != nil {
		t.Fatal(err)
	}
	return rt
}

// A route is a client's way to a service: its handshake names the host, and so
// does its request.
type route struct {
	hello   *tls.ClientHelloInfo
	request *http.Request
}

func routeTo(host string) route {
	hello := &tls.ClientHelloInfo{
		ServerName: host, SupportedVersions: []uint16{tls.VersionTLS13}, SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256},
	}
	return route{hello, &http.Request{Host: host + ":443", TLS: &tls.ConnectionState{ServerName: host}}}
}

func (r route) take(t testing.TB, l *endpoint) (*tls.Certificate, *limpet.VirtualService) {
	c, err := l.server.TLSConfig.GetConfigForClient(r.hello)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := c.GetCertificate(r.hello)
	if err != nil {
		t.Fatal(err)
	}
	vs, _ := l.of.service(r.request)
	return cert, vs
}

// Each name leads to its service and to its certificate at each listener,
// without an allocation.
func TestRouting(t *testing.T) {
	rt := routed(t)
	for i, e := range rt.ends {
		for n := range routedServices {
			want, _ := rt.Service(fmt.Sprint("s", n))
			for _, host := range []string{fmt.Sprintf("n%d.s%d.example.org", i%9, n), fmt.Sprintf("any.s%d.example.com", n)} {
				r := routeTo(host)
				if cert, vs := r.take(t, e); vs != want || cert.Leaf.VerifyHostname(host) != nil {
					t.Errorf("listener %d: %s leads to %p, not %p, with the certificate of %v", i, host, vs, want, cert.Leaf.DNSNames)
				}
				if testrace.Enabled {
					continue
				}
				if allocs := testing.AllocsPerRun(10, func() { r.take(t, e) }); allocs != 0 {
					t.Errorf("%s: %v allocations", host, allocs)
				}
			}
		}
	}
}

// BenchmarkRouting has the goal of 200 ns for the service of a request, and for
// the certificate of a handshake.
func BenchmarkRouting(b *testing.B) {
	rt := routed(b)
	for name, host := range map[string]string{"exact": "n8.s99.example.org", "below": "any.s99.example.com"} {
		r, l := routeTo(host), rt.ends[routedListeners-1]
		b.Run("service/"+name, func(b *testing.B) {
			timed(b, func() { l.of.service(r.request) })
		})
		b.Run("certificate/"+name, func(b *testing.B) {
			c, err := l.server.TLSConfig.GetConfigForClient(r.hello)
			if err != nil {
				b.Fatal(err)
			}
			timed(b, func() { _, _ = c.GetCertificate(r.hello) })
		})
	}
}

// timed also reports the processor time, which a busy machine does not change
// much.
func timed(b *testing.B, f func()) {
	b.ReportAllocs()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	began := cputime.Thread()
	for b.Loop() {
		f()
	}
	b.ReportMetric(float64((cputime.Thread()-began).Nanoseconds())/float64(b.N), "cpu-ns/op")
}
