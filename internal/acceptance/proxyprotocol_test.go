package acceptance_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/policy"
)

// whoami answers with what scripts and handlers know of the connection.
func whoami(t testing.TB, cfg limpet.Config) (http.Handler, *limpet.VirtualService) {
	t.Helper()
	cfg.Scripts = []limpet.Script{onResponse(t, "who", `
avi.http.add_header("X-Client", avi.vs.client_ip() .. " " .. avi.vs.client_port())
avi.http.add_header("X-Local", avi.vs.ip() .. " " .. avi.vs.port())
avi.http.add_header("X-Protocol", avi.http.protocol())`)}
	vs := newVirtualService(t, cfg)
	return vs.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Remote", r.RemoteAddr)
		tx, _ := limpet.TransactionFrom(r.Context())
		w.Header().Set("X-Source", tx.Source().String())
	})), vs
}

// v1 and v2 are headers from 203.0.113.9:4711 to 198.51.100.1:443.
const v1 = "PROXY TCP4 203.0.113.9 198.51.100.1 4711 443\r\n"

func v2(t testing.TB, edit func(*proxyproto.Header)) string {
	t.Helper()
	h := &proxyproto.Header{
		Version: 2, Command: proxyproto.PROXY, TransportProtocol: proxyproto.TCPv4,
		SourceAddr:      &net.TCPAddr{IP: net.IPv4(203, 0, 113, 9), Port: 4711},
		DestinationAddr: &net.TCPAddr{IP: net.IPv4(198, 51, 100, 1), Port: 443},
	}
	edit(h)
	b, err := h.Format()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// sendBehind sends a request behind a header.
func sendBehind(t testing.TB, c net.Conn, header string) *bufio.Reader {
	t.Helper()
	if _, err := io.WriteString(c, header); err != nil {
		t.Fatal(err)
	}
	return send(t, c, "GET / HTTP/1.1\nHost: example.com\n\n")
}

func tlv(t testing.TB, tlvs ...proxyproto.TLV) func(*proxyproto.Header) {
	return func(h *proxyproto.Header) {
		if err := h.SetTLVs(tlvs); err != nil {
			t.Fatal(err)
		}
	}
}

func ssl(client byte) proxyproto.TLV {
	return proxyproto.TLV{Type: proxyproto.PP2_TYPE_SSL, Value: []byte{client, 0, 0, 0, 0}}
}

// TestProxyProtocol sends headers from where they are expected.
func TestProxyProtocol(t *testing.T) {
	t.Parallel()
	same := func(*proxyproto.Header) {}
	long := func(n int) string { // a header of n bytes
		h := []byte(v2(t, tlv(t, proxyproto.TLV{Type: proxyproto.PP2_TYPE_NOOP, Value: make([]byte, n-16-12-3)})))
		return string(h)
	}
	declared := func(length uint16) string {
		h := []byte(v2(t, same))
		binary.BigEndian.PutUint16(h[14:], length)
		return string(h)
	}
	const client = "203.0.113.9:4711 198.51.100.1:443"
	const proxy = "proxy"
	for _, test := range []struct {
		name, header string
		want         string // client and local address, "proxy" for those of the connection, or empty if it is closed
		protocol     string
	}{
		{"v1", v1, client, "http"},
		{"v1, IPv6", "PROXY TCP6 2001:db8::9 2001:db8::1 4711 443\r\n", "[2001:db8::9]:4711 [2001:db8::1]:443", "http"},
		{"v1, mapped", "PROXY TCP6 ::ffff:203.0.113.9 ::ffff:198.51.100.1 4711 443\r\n", client, "http"},
		{"v1, UNKNOWN", "PROXY UNKNOWN\r\n", proxy, "http"},
		{"v1, UNKNOWN with text", "PROXY UNKNOWN ffff:: ffff:: 65535 65535\r\n", proxy, "http"},
		{"v1, another family", "PROXY UDP4 203.0.113.9 198.51.100.1 4711 443\r\n", "", ""},
		{"v1, no address", "PROXY TCP4\r\n", "", ""},
		{"v1, zone", "PROXY TCP6 fe80::1%eth0 2001:db8::1 4711 443\r\n", "", ""},
		{"v1, bad port", "PROXY TCP4 203.0.113.9 198.51.100.1 65536 443\r\n", "", ""},
		{"v1, bare line feed", "PROXY TCP4 203.0.113.9 198.51.100.1 4711 443\n", "", ""},
		{"v1, no end", "PROXY UNKNOWN " + strings.Repeat("x", 10_000), "", ""},
		{"v1, one byte too long", "PROXY UNKNOWN " + strings.Repeat("x", 107-16+1) + "\r\n", "", ""},
		{"v1, as long as may be", "PROXY UNKNOWN " + strings.Repeat("x", 107-16) + "\r\n", proxy, "http"},
		{"v1, cut off", "PROXY TCP4 203.0.113.9", "", ""},
		{"v2", v2(t, same), client, "http"},
		{"v2, IPv6", v2(t, func(h *proxyproto.Header) {
			h.TransportProtocol = proxyproto.TCPv6
			h.SourceAddr = &net.TCPAddr{IP: net.ParseIP("2001:db8::9"), Port: 4711}
			h.DestinationAddr = &net.TCPAddr{IP: net.ParseIP("2001:db8::1"), Port: 443}
		}), "[2001:db8::9]:4711 [2001:db8::1]:443", "http"},
		{"v2, LOCAL", v2(t, func(h *proxyproto.Header) { h.Command = proxyproto.LOCAL }), proxy, "http"},
		{"v2, LOCAL without addresses", v2(t, func(h *proxyproto.Header) {
			h.Command, h.TransportProtocol = proxyproto.LOCAL, proxyproto.UNSPEC
		}), proxy, "http"},
		{"v2, UNIX", v2(t, func(h *proxyproto.Header) {
			h.TransportProtocol = proxyproto.UnixStream
			h.SourceAddr, h.DestinationAddr = &net.UnixAddr{Net: "unix", Name: "/a"}, &net.UnixAddr{Net: "unix", Name: "/b"}
		}), proxy, "http"},
		{"v2, UDP", v2(t, func(h *proxyproto.Header) {
			h.TransportProtocol = proxyproto.UDPv4
			h.SourceAddr = &net.UDPAddr{IP: net.IPv4(203, 0, 113, 9), Port: 4711}
			h.DestinationAddr = &net.UDPAddr{IP: net.IPv4(198, 51, 100, 1), Port: 443}
		}), "", ""},
		{"v2, UNSPEC", string(proxyproto.SIGV2) + "\x21\x00\x00\x00", proxy, "http"},
		{"v2, UNSPEC with addresses", string(proxyproto.SIGV2) + "\x21\x00\x00\x0c" + strings.Repeat("x", 12), proxy, "http"},
		{"v2, UNSPEC with a TLV of SSL", string(proxyproto.SIGV2) + "\x21\x00\x00\x08" + "\x20\x00\x05\x01\x00\x00\x00\x00", proxy, "http"},
		{"v2, UNSPEC, 4 KiB and a byte", string(proxyproto.SIGV2) + "\x21\x00\x0f\xf1" + strings.Repeat("x", 4081), "", ""},
		{"v2, UNSPEC and a transport", string(proxyproto.SIGV2) + "\x21\x01\x00\x00", "", ""},
		{"v2, unknown family", string(proxyproto.SIGV2) + "\x21\x41\x00\x00", "", ""},
		{"v2, unknown transport", string(proxyproto.SIGV2) + "\x21\x13\x00\x0c" + strings.Repeat("x", 12), "", ""},
		{"v2, unknown command", string(proxyproto.SIGV2) + "\x22\x11\x00\x0c" + strings.Repeat("x", 12), "", ""},
		{"v2, unknown version", string(proxyproto.SIGV2) + "\x31\x11\x00\x0c" + strings.Repeat("x", 12), "", ""},
		{"v2, length 65,535", declared(65_535), "", ""},
		{"v2, too short for its family", declared(11), "", ""},
		{"v2, cut off", v2(t, same)[:20], "", ""},
		{"v2, 4 KiB", long(4096), client, "http"},
		{"v2, 4 KiB and a byte", long(4097), "", ""},
		{"v2, the client spoke TLS", v2(t, tlv(t, ssl(1))), client, "https"},
		{"v2, the client spoke no TLS", v2(t, tlv(t, ssl(0))), client, "http"},
		{"v2, several TLVs", v2(t, tlv(t,
			proxyproto.TLV{Type: proxyproto.PP2_TYPE_AUTHORITY, Value: []byte("example.com")}, ssl(7),
			proxyproto.TLV{Type: 0xEE, Value: []byte("unknown")})), client, "https"},
		{"v2, SSL TLV too short", v2(t, tlv(t, proxyproto.TLV{Type: proxyproto.PP2_TYPE_SSL, Value: []byte{1}})), "", ""},
		{"v2, TLV cut off", string(proxyproto.SIGV2) + "\x21\x11\x00\x0e" + "\xcb\x00\x71\x09\xc6\x33\x64\x01\x12\x67\x01\xbb" + "\x20\x00", "", ""},
		{"no header", "", "", ""},
		{"almost a header", "PROXYTCP4 203.0.113.9 198.51.100.1 4711 443\r\n", "", ""},
		{"almost a signature", "\r\n\r\n\x00\r\nQUIX\n" + "\x21\x11\x00\x00", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			recs := newRecords()
			h, vs := whoami(t, limpet.Config{Clients: limpet.Clients{ProxyProtocol: limpet.ProxyProtocol{From: loopback}}, OnComplete: recs.add})
			site := startSite(t, http1, vs.Listener(listen(t, "")), h)
			c := site.dial(t, "")
			request := "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"
			if strings.Contains(test.name, "cut off") && !strings.Contains(test.name, "TLV") {
				request = ""
			}
			if _, err := io.WriteString(c, test.header+request); err != nil {
				t.Fatal(err)
			}
			if request == "" {
				_ = c.(*net.TCPConn).CloseWrite()
			}
			proxyAddr := c.LocalAddr().(*net.TCPAddr).AddrPort()
			if test.want == "" {
				rest, _ := endOf(t, c)
				rec := recs.next(t)
				if rest != "" || !rec.Connection || !rec.Closed || !errors.Is(rec.Error, limpet.ErrProxyHeader) ||
					!slices.Equal(rec.Significant, []limpet.Significance{limpet.BadProxyHeader}) || rec.Proxy != proxyAddr {
					t.Errorf("%q, record %+v", rest, rec)
				}
				if st := vs.Stats(); st.BadProxyHeaders != 1 || st.DeniedConnections != 1 || st.Requests != 0 || st.OpenConnections != 0 {
					t.Errorf("%+v", st)
				}
				return
			}
			want := strings.Fields(strings.ReplaceAll(test.want, proxy, proxyAddr.String()+" "+site.Addr))
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			client, local := netip.MustParseAddrPort(want[0]), netip.MustParseAddrPort(want[1])
			got := []string{res.Header.Get("X-Client"), res.Header.Get("X-Local"), res.Header.Get("X-Source"), res.Header.Get("X-Remote")}
			if wantAll := []string{
				fmt.Sprintf("%v %d", client.Addr(), client.Port()), fmt.Sprintf("%v %d", local.Addr(), local.Port()), client.String(),
			}; !slices.Equal(got[:3], wantAll) {
				t.Errorf("script and handler see %q, want %q", got[:3], wantAll)
			}
			if remote, err := netip.ParseAddrPort(got[3]); err != nil || remote.Addr().Unmap() != client.Addr() || remote.Port() != client.Port() {
				t.Errorf("RemoteAddr %q", got[3])
			}
			if got := res.Header.Get("X-Protocol"); got != test.protocol {
				t.Errorf("protocol %q, want %q", got, test.protocol)
			}
			rec := recs.next(t)
			if rec.Client != client || rec.Source != client || rec.Local != local || rec.Proxy != proxyAddr {
				t.Errorf("record: %+v", rec)
			}
		})
	}
}

// From others the header is what it looks like to them: no HTTP.
func TestProxyProtocolFromOthers(t *testing.T) {
	recs := newRecords()
	h, vs := whoami(t, limpet.Config{
		Clients: limpet.Clients{ProxyProtocol: limpet.ProxyProtocol{From: []netip.Prefix{netip.MustParsePrefix("127.0.0.66/32")}}}, OnComplete: recs.add,
	})
	site := startSite(t, http1, vs.Listener(listen(t, "")), h)
	for _, header := range []string{v1, v2(t, func(*proxyproto.Header) {})} {
		res, err := http.ReadResponse(sendBehind(t, site.dial(t, ""), header), nil)
		if err != nil || res.StatusCode != 400 {
			t.Errorf("%v %v", res, err)
		}
	}
	c := site.dial(t, "")
	res, err := http.ReadResponse(send(t, c, "GET / HTTP/1.1\nHost: example.com\n\n"), nil)
	if err != nil || res.Header.Get("X-Remote") != c.LocalAddr().String() {
		t.Errorf("%v %v", res, err)
	}
	if rec := recs.next(t); rec.Proxy.IsValid() || rec.Source.String() != c.LocalAddr().String() {
		t.Errorf("%+v", rec)
	}
	recs.none(t)
}

// A header may come in any pieces.
func TestProxyProtocolInPieces(t *testing.T) {
	h, vs := whoami(t, limpet.Config{Clients: limpet.Clients{ProxyProtocol: limpet.ProxyProtocol{From: loopback}}})
	site := startSite(t, http1, vs.Listener(listen(t, "")), h)
	for _, header := range []string{v1, v2(t, tlv(t, ssl(1)))} {
		c := site.dial(t, "")
		_ = c.(*net.TCPConn).SetNoDelay(true)
		for i := range len(header) {
			if _, err := io.WriteString(c, header[i:i+1]); err != nil {
				t.Fatal(err)
			}
		}
		res, err := http.ReadResponse(send(t, c, "GET / HTTP/1.1\nHost: example.com\n\n"), nil)
		if err != nil || res.Header.Get("X-Client") != "203.0.113.9 4711" {
			t.Errorf("%v %v", res, err)
		}
	}
}

// The address in the header is the client for everything: network security,
// the resolver behind it, HTTP rules, and TLS goes on behind the header.
func TestProxyProtocolEverywhere(t *testing.T) {
	for _, p := range []protocol{http1, http1TLS, http2TLS} {
		t.Run(string(p), func(t *testing.T) {
			recs := newRecords()
			h, vs := whoami(t, limpet.Config{
				Clients: limpet.Clients{
					ProxyProtocol:  limpet.ProxyProtocol{From: loopback},
					TrustedProxies: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")},
				},
				Policies: limpet.Policies{
					NetworkSecurity: denying("192.0.2.66"),
					HTTPSecurity: []policy.SecurityRule{{
						Name: "forbidden", Action: policy.Respond{Status: 403},
						Match: policy.Match{ClientIP: &policy.IPMatch{Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.7")}}},
					}},
				},
				OnComplete: recs.add,
			})
			site := startSite(t, p, vs.Listener(listen(t, "")), h)
			ask := func(header, xff string) (*http.Response, error) {
				tr := site.transport(t)
				tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
					c, err := new(net.Dialer).DialContext(ctx, network, addr)
					if err == nil {
						_, err = io.WriteString(c, header)
					}
					return c, err
				}
				r := newRequest(t, "GET", site.URL, nil)
				if xff != "" {
					r.Header.Set("X-Forwarded-For", xff)
				}
				res, err := tr.RoundTrip(r)
				if err == nil {
					res.Body.Close()
				}
				return res, err
			}
			res, err := ask(v1, "6.6.6.6, 192.0.2.1")
			if err != nil {
				t.Fatal(err)
			}
			if got := res.Header.Get("X-Client"); got != "192.0.2.1 0" || res.ProtoMajor != p.major() {
				t.Errorf("client %q over %s", got, res.Proto)
			}
			if rec := recs.next(t); rec.Client.Addr().String() != "192.0.2.1" || rec.Source.Addr().String() != "203.0.113.9" ||
				rec.ClientReason != "hop-untrusted" || !rec.Proxy.IsValid() {
				t.Errorf("%+v", rec)
			}
			if res, err := ask(v1, "192.0.2.7"); err != nil || res.StatusCode != 403 {
				t.Errorf("%v %v", res, err)
			}
			recs.next(t)
			if _, err := ask("PROXY TCP4 192.0.2.66 198.51.100.1 1 443\r\n", ""); err == nil {
				t.Error("network security does not see the client")
			}
			if rec := recs.next(t); rec.NetworkRule != "no 192.0.2.66" || !rec.Connection || rec.Client.String() != "192.0.2.66:1" {
				t.Errorf("%+v", rec)
			}
		})
	}
}

// Silent proxies delay nobody, and are cut off in time.
func TestProxyProtocolSilence(t *testing.T) {
	t.Parallel()
	recs := newRecords()
	h, vs := whoami(t, limpet.Config{Clients: limpet.Clients{ProxyProtocol: limpet.ProxyProtocol{From: loopback, HeaderTimeout: time.Second}}, OnComplete: recs.add})
	site := startSite(t, http1, vs.Listener(listen(t, "")), h)
	start := time.Now()
	var silent []net.Conn
	for range 50 {
		silent = append(silent, site.dial(t, ""))
	}
	res, err := http.ReadResponse(sendBehind(t, site.dial(t, ""), v1), nil)
	if err != nil || res.StatusCode != 200 {
		t.Fatal(res, err)
	}
	if rec := recs.next(t); rec.Connection {
		t.Errorf("the silent were served first: %+v", rec)
	}
	for _, c := range silent {
		endOf(t, c)
	}
	if took := time.Since(start); took < time.Second {
		t.Errorf("cut off after %v", took)
	}
	for _, rec := range recs.take(t, len(silent)) {
		if !errors.Is(rec.Error, limpet.ErrProxyHeader) {
			t.Errorf("%+v", rec)
		}
	}

	// Who only looks whether the port is open leaves no record.
	c := site.dial(t, "")
	c.Close()
	if _, err := http.ReadResponse(sendBehind(t, site.dial(t, ""), v1), nil); err != nil {
		t.Fatal(err)
	}
	recs.next(t)
	recs.none(t)
}
