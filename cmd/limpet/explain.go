package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/limpetlb/limpet/config"
)

// explainOptions are those of the command explain.
type explainOptions struct {
	method, body, service, listener string
	client                          netip.Addr
	header                          http.Header
}

func newExplain() *cobra.Command {
	o := explainOptions{header: http.Header{}}
	c := &cobra.Command{
		Use:   "explain [flags] CONFIG URL",
		Short: "show what would become of a request",
		Long: "Print which rules match a request for URL and why, what scripts log, the request that a server would get, and the response that " +
			"the client would get. Nothing is sent. The status is 1 if the configuration has a fault, 2 if servers cannot read the URL, or the listener or the service is not clear.",
		Args:              arguments(2, 2),
		ValidArgsFunction: configurationFiles,
		RunE:              running(o.explain),
	}
	c.Flags().StringVar(&o.method, "method", http.MethodGet, "the request's `method`")
	c.Flags().StringVar(&o.body, "body", "", "the request's body, as `text`")
	c.Flags().TextVar(&o.client, "client", netip.MustParseAddr("192.0.2.1"), "the `address` of the client")
	c.Flags().StringVar(&o.service, "service", "", "the `name` of a service that gets the request, whatever its host")
	c.Flags().StringVar(&o.listener, "listener", "", "the `name` of the listener, if the port of URL is that of none or of several")
	c.Flags().Func("header", "a header of the request, as `\"NAME: VALUE\"`; may be repeated", func(s string) error {
		name, value, ok := strings.Cut(s, ":")
		if !ok {
			return fmt.Errorf("%q has no colon", s)
		}
		o.header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
		return nil
	})
	completing(c, "method", []string{
		http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions,
	})
	return c
}

// explain prints which rules of policies match a request and why, takes it
// through a virtual service that sends nothing to servers, and prints what
// became of it. Servers are assumed to be up, and one server stands for those
// that would be discovered.
func (o *explainOptions) explain(ctx context.Context, args []string, out, errs io.Writer) int {
	file, url, header := args[0], args[1], o.header
	r, err := http.NewRequestWithContext(ctx, o.method, url, strings.NewReader(o.body))
	if err == nil && r.URL.Host == "" {
		err = fmt.Errorf("%s: no host", url)
	}
	if err != nil {
		complain(errs, err)
		return misuse
	}
	if host := header.Get("Host"); host != "" {
		r.Host = host
		header.Del("Host")
	}
	if err := readable(url, r.Method); err != nil {
		complain(errs, err)
		return misuse
	}
	r.Header, r.RequestURI, r.RemoteAddr = header, r.URL.RequestURI(), net.JoinHostPort(o.client.String(), "1234")
	if r.URL.Scheme == "https" {
		r.TLS = &tls.ConnectionState{Version: tls.VersionTLS13, HandshakeComplete: true, ServerName: r.URL.Hostname()}
	}
	if given := r.URL.Port(); given != "" {
		if _, err := strconv.ParseUint(given, 10, 16); err != nil {
			complain(errs, fmt.Errorf("%s: no port %q", url, given))
			return misuse
		}
	}
	e, err := o.explained(ctx, file, r)
	if ctx.Err() != nil {
		return interrupted(errs)
	}
	if err != nil {
		complain(errs, err)
		if _, is := errors.AsType[choiceError](err); is {
			return misuse
		}
		return failed
	}
	fmt.Fprint(out, e)
	return ok
}

// readable returns an error if a server could not read the request for a URL:
// its target is sent as it is written.
func readable(text, method string) error {
	_, target, _ := strings.Cut(text, "://")
	target, _, _ = strings.Cut(target, "#")
	if i := strings.IndexAny(target, "/?"); i >= 0 {
		target = target[i:]
	} else {
		target = "/"
	}
	if target[0] == '?' {
		target = "/" + target
	}
	_, err := http.ReadRequest(bufio.NewReader(strings.NewReader(method + " " + target + " HTTP/1.1\r\nHost: a\r\n\r\n")))
	if err != nil {
		return fmt.Errorf("%s: servers refuse this with status 400: %w", strings.ToValidUTF8(text, "?"), err)
	}
	return nil
}

// local is where the request of r's URL arrives: at its port, else at that of
// the listener, else at that of its scheme.
func local(l config.Listener, r *http.Request) net.Addr {
	addr := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 2), Port: 80}
	if r.TLS != nil {
		addr.Port = 443
	}
	host, service, _ := net.SplitHostPort(l.Address)
	if ip, err := netip.ParseAddr(host); err == nil && !ip.IsUnspecified() {
		addr.IP, addr.Zone = ip.AsSlice(), ip.Zone()
	}
	if port, err := net.LookupPort(l.Network, service); err == nil && port != 0 {
		addr.Port = port
	}
	if given, err := strconv.ParseUint(r.URL.Port(), 10, 16); err == nil {
		addr.Port = int(given)
	}
	return addr
}

// explained explains a request at the listener that it comes to or, if a
// service is named, in that.
func (o *explainOptions) explained(ctx context.Context, file string, r *http.Request) (fmt.Stringer, error) {
	f, err := config.Load(ctx, file)
	if err != nil {
		return nil, err
	}
	if o.service != "" && !slices.Contains(f.Services(), o.service) {
		return nil, choiceError{file, "service", f.Services()}
	}
	rt, err := f.Build(config.Options{Offline: true})
	if err != nil {
		return nil, err
	}
	l, ok := o.arrives(rt.Listeners(), r)
	if !ok {
		return nil, choiceError{file, "listener", names(rt.Listeners())}
	}
	r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, local(l, r)))
	if o.service == "" {
		return rt.Explain(l, r, true)
	}
	vs, _ := rt.Service(o.service)
	return vs.ExplainRequest(r, true)
}

// arrives returns the listener of a request: the one that is named, or has the
// service that is named, or the port of the URL, or the only one. It is the
// address with that port, if there is one.
func (o *explainOptions) arrives(all []config.Listener, r *http.Request) (l config.Listener, ok bool) {
	given := slices.Clone(all)
	all = slices.DeleteFunc(all, func(l config.Listener) bool {
		return o.listener != "" && l.Name != o.listener || o.listener == "" && o.service != "" && !slices.Contains(l.Services(), o.service)
	})
	if o.listener == "" && len(all) == 0 {
		all = given // the service is at none
	}
	port := r.URL.Port()
	if port == "" {
		port = map[bool]string{false: "80", true: "443"}[r.TLS != nil]
	}
	at := slices.DeleteFunc(slices.Clone(all), func(l config.Listener) bool {
		_, its, _ := net.SplitHostPort(l.Address)
		return its != port
	})
	if len(names(at)) == 1 {
		return at[0], true
	}
	if len(names(all)) == 1 || o.service != "" {
		return all[0], true
	}
	return l, false
}

// names are the names of listeners, each once.
func names(listeners []config.Listener) (all []string) {
	for _, l := range listeners {
		if !slices.Contains(all, l.Name) {
			all = append(all, l.Name)
		}
	}
	return all
}

// A choiceError says that the command line does not name one of the services or
// listeners of a file.
type choiceError struct {
	file, option string
	known        []string
}

// Error implements error.
func (e choiceError) Error() string {
	return fmt.Sprintf("%s: --%s must be one of %s", e.file, e.option, strings.Join(e.known, ", "))
}
