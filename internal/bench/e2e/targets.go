package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"os"
	"runtime/pprof"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/lbpool"
)

// A target is a proxy to measure: a program with a configuration, or one of
// goTargets, which this program serves itself in a process of its own.
type target struct {
	name    string
	program string // empty for Go targets
	debian  string // the packages that have the program
	config  string // of configs
	files   []string
	args    func(config string) []string
}

func nginxArgs(config string) []string { return []string{"-c", config, "-e", "stderr"} }

// targets are all there are; ratios are to the first.
var targets = []target{
	{name: "limpet-listing"},
	{name: "limpet"},
	{name: "limpet-http-transport"},
	{name: "reverseproxy-listing"},
	{name: "reverseproxy"},
	{name: "reverseproxy-default"},
	{name: "haproxy-lua", program: "haproxy", debian: "haproxy", config: "haproxy-lua.cfg", files: []string{"sticky.lua"}, args: haproxyArgs},
	{name: "haproxy-source", program: "haproxy", debian: "haproxy", config: "haproxy-source.cfg", args: haproxyArgs},
	{name: "nginx-lua", program: "nginx", debian: "nginx libnginx-mod-http-lua", config: "nginx-lua.conf", args: nginxArgs},
	{name: "caddy-ip-hash", program: "caddy", debian: "caddy", config: "Caddyfile", args: func(config string) []string {
		return []string{"run", "--adapter", "caddyfile", "--config", config}
	}},
	{name: "nethttp-hello"},
	{name: "nethttp-hello-limpet"},
	{name: "nethttp-hello-listing"},
}

func haproxyArgs(config string) []string { return []string{"-db", "-f", config} }

func targetNames() []string {
	names := make([]string, len(targets))
	for i, t := range targets {
		names[i] = t.name
	}
	return names
}

// listing is the published use case, word for word.
const listing = `-- HTTP Request Event --
pool = "my_pool"
client = avi.vs.client_ip() .. avi.vs.client_port()
server = avi.vs.table_lookup(client)
timeout = "300"

if server then
   avi.pool.select(pool, client)
end


-- HTTP Response Event --
if not server then
   avi.vs.table_insert(client, avi.pool.server_ip(), timeout)
end
`

// goTargets make the handler of a Go target.
var goTargets = map[string]func(upstreams []string) (http.Handler, error){
	"limpet-listing": func(upstreams []string) (http.Handler, error) { return virtualService(upstreams, true, nil) },
	"limpet":         func(upstreams []string) (http.Handler, error) { return virtualService(upstreams, false, nil) },
	// The listing over the transport of the standard library.
	"limpet-http-transport": func(upstreams []string) (http.Handler, error) {
		return virtualService(upstreams, true, tuned())
	},
	// The same events in front of the standard library's proxy.
	"reverseproxy-listing": func(upstreams []string) (http.Handler, error) {
		vs, err := virtualService(upstreams, true, nil)
		if err != nil {
			return nil, err
		}
		return vs.Wrap(reverseProxy(upstreams, &lbpool.Transport{Base: tuned()})), nil
	},
	"reverseproxy":         func(upstreams []string) (http.Handler, error) { return reverseProxy(upstreams, tuned()), nil },
	"reverseproxy-default": func(upstreams []string) (http.Handler, error) { return reverseProxy(upstreams, nil), nil },
	"nethttp-hello":        func([]string) (http.Handler, error) { return http.HandlerFunc(hello), nil },
	"nethttp-hello-limpet": func([]string) (http.Handler, error) {
		vs, err := limpet.New(limpet.Config{})
		if err != nil {
			return nil, err
		}
		return vs.Wrap(http.HandlerFunc(hello)), nil
	},
	"nethttp-hello-listing": func(upstreams []string) (http.Handler, error) {
		vs, err := virtualService(upstreams, true, nil)
		if err != nil {
			return nil, err
		}
		return vs.Wrap(http.HandlerFunc(hello)), nil
	},
}

func hello(w http.ResponseWriter, r *http.Request) {
	_, _ = io.WriteString(w, "hello from the handler, which has no server behind it and so is what the server side of a proxy costs\n")
}

// tuned is a transport that keeps enough connections.
func tuned() *http.Transport {
	return &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true, IdleConnTimeout: time.Minute}
}

func reverseProxy(upstreams []string, transport http.RoundTripper) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", upstreams[0]
			r.SetXForwarded()
		},
		Transport: transport,
	}
}

func virtualService(upstreams []string, scripted bool, transport http.RoundTripper) (*limpet.VirtualService, error) {
	var servers []lbpool.ServerConfig
	for i, addr := range upstreams {
		if _, err := netip.ParseAddrPort(addr); err != nil {
			return nil, fmt.Errorf("upstream %d: %w", i, err)
		}
		servers = append(servers, lbpool.ServerConfig{Address: addr})
	}
	pool, err := lbpool.New(lbpool.Config{Name: "my_pool", Servers: servers})
	if err != nil {
		return nil, err
	}
	cfg := limpet.Config{Pools: []*lbpool.Pool{pool}, Transport: transport}
	if scripted {
		script, err := datascript.Compile("custom persistence", datascript.Chunk{Source: listing})
		if err != nil {
			return nil, err
		}
		cfg.Scripts = []limpet.Script{{Script: script}}
	}
	return limpet.New(cfg)
}

// serveTarget is what a Go target's process does.
func serveTarget(name, listen string, upstreams []string, profile string) error {
	make, ok := goTargets[name]
	if !ok {
		return fmt.Errorf("-serve %s: no such target", name)
	}
	h, err := make(upstreams)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	if profile != "" {
		f, err := os.Create(profile)
		if err != nil {
			return err
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		time.AfterFunc(5*time.Second, func() {
			pprof.StopCPUProfile()
			_ = f.Close()
		})
	}
	return http.Serve(ln, h)
}
