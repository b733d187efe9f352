package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/config"
)

// explainOptions are those of the command explain.
type explainOptions struct {
	method, body, service string
	client                netip.Addr
	header                http.Header
}

func newExplain() *cobra.Command {
	o := explainOptions{header: http.Header{}}
	c := &cobra.Command{
		Use:   "explain [flags] CONFIG URL",
		Short: "show what would become of a request",
		Long: "Print which rules match a request for URL and why, what scripts log, the request that a server would get, and the response that " +
			"the client would get. Nothing is sent. The status is 1 if the configuration has a fault, 2 if servers cannot read the URL or the service is not named.",
		Args:              arguments(2, 2),
		ValidArgsFunction: configurationFiles,
		RunE:              running(o.explain),
	}
	c.Flags().StringVar(&o.method, "method", http.MethodGet, "the request's `method`")
	c.Flags().StringVar(&o.body, "body", "", "the request's body, as `text`")
	c.Flags().TextVar(&o.client, "client", netip.MustParseAddr("192.0.2.1"), "the `address` of the client")
	c.Flags().StringVar(&o.service, "service", "", "the `name` of the service, if there are several")
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
	e, err := explained(ctx, file, o.service, r)
	if ctx.Err() != nil {
		return interrupted(errs)
	}
	if err != nil {
		complain(errs, err)
		if _, is := errors.AsType[serviceError](err); is {
			return misuse
		}
		return failed
	}
	e.report(out)
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

// An explanation is what became of a request.
type explanation struct {
	policies string // which rules were tried, and why they matched or did not
	rec      limpet.Record
	sent     *http.Request // to the server; nil if it got none
	answer   *answer
}

func explained(ctx context.Context, file, service string, r *http.Request) (*explanation, error) {
	f, err := config.Load(ctx, file)
	if err != nil {
		return nil, err
	}
	if all := f.Services(); service == "" && len(all) == 1 {
		service = all[0]
	} else if !slices.Contains(all, service) {
		return nil, serviceError{file, all}
	}
	e := &explanation{answer: &answer{header: http.Header{}}}
	rt, err := f.Build(config.Options{Offline: true, Edit: func(_ string, c *limpet.Config) {
		c.OnComplete = func(done limpet.Record) { e.rec = done }
		c.Transport = roundTripper(func(out *http.Request) (*http.Response, error) {
			e.sent = out
			return &http.Response{
				Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
				Header: http.Header{}, Body: http.NoBody, Request: out,
			}, nil
		})
	}})
	if err != nil {
		return nil, err
	}
	listeners := rt.Listeners()
	at := max(0, slices.IndexFunc(listeners, func(l config.Listener) bool { return slices.Contains(l.Services(), service) }))
	r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, local(listeners[at], r)))
	vs, _ := rt.Service(service)
	e.policies, _, _ = strings.Cut(vs.Explain(r), "scripts, which were not run") // here they are
	func() {
		defer func() {
			// A connection that is closed ends this way; the record says so.
			p := recover()
			if err, is := p.(error); p != nil && !(is && errors.Is(err, http.ErrAbortHandler)) {
				panic(p)
			}
		}()
		vs.ServeHTTP(e.answer, r)
	}()
	return e, nil
}

// A serviceError says that the command line names no service of a file.
type serviceError struct {
	file     string
	services []string
}

// Error implements error.
func (e serviceError) Error() string {
	return fmt.Sprintf("%s: --service must be one of %s", e.file, strings.Join(e.services, ", "))
}

type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip calls the function.
func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// An answer is what the client would get.
type answer struct {
	header http.Header
	status int
	body   strings.Builder
}

// Header implements http.ResponseWriter.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) { a.status = status }

// Write implements http.ResponseWriter.
func (a *answer) Write(p []byte) (int, error) { return a.body.Write(p) }

// report writes the explanation.
func (e *explanation) report(out io.Writer) {
	b := bufio.NewWriter(out)
	defer b.Flush()
	_, _ = b.WriteString(e.policies)
	_ = b.WriteByte('\n')
	rec, sent := &e.rec, e.sent
	fact := func(name string, value any) {
		if s := fmt.Sprint(value); s != "" && s != "invalid AddrPort" {
			fmt.Fprintf(b, "%-14s %s\n", name, s)
		}
	}
	fact("client", rec.Client)
	fact("network rule", rec.NetworkRule)
	fact("security rule", rec.SecurityRule)
	fact("request rule", rec.RequestRule)
	for _, m := range rec.Monitored {
		fact("dry run", m.Rule+": "+m.Action.String())
	}
	fact("pool", rec.Pool)
	fact("server", rec.Server)
	fact("persistence", rec.Outcome)
	for _, line := range rec.Log {
		fact("log", line)
	}
	for _, e := range rec.ScriptErrors {
		fact("script error", e.Message)
	}
	if rec.Error != nil {
		fact("error", rec.Error)
	}
	if rec.Closed {
		fact("closed", "the client's connection")
	}
	if sent != nil {
		fmt.Fprintf(b, "\nThe server gets:\n%s %s\nHost: %s\n", sent.Method, sent.URL.RequestURI(), sent.Host)
		writeHeader(b, sent.Header)
	}
	if rec.Status != 0 {
		fmt.Fprintf(b, "\nThe client gets:\n%d %s\n", rec.Status, http.StatusText(rec.Status))
		writeHeader(b, e.answer.header)
		if e.answer.body.Len() > 0 {
			fmt.Fprintf(b, "\n%s\n", strings.TrimSuffix(e.answer.body.String(), "\n"))
		}
	}
}

func writeHeader(b *bufio.Writer, h http.Header) {
	for _, name := range slices.Sorted(maps.Keys(h)) {
		for _, v := range h[name] {
			if name == "User-Agent" && v == "" {
				continue // which keeps a transport from adding its own
			}
			fmt.Fprintf(b, "%s: %s\n", name, v)
		}
	}
}
