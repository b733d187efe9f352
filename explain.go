package limpet

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Explain returns the text of [VirtualService.ExplainRequest] without scripts.
func (vs *VirtualService) Explain(r *http.Request) string { return vs.explain(r).String() }

// ExplainRequest finds out what would become of a request: who and where the
// client is, which rules were tried, which matched and why. r is a request as a
// server gets it: RemoteAddr, Host, URL, Header and TLS matter, and where it
// was accepted in its context, as net/http puts it there. It counts, limits and
// sends nothing.
//
// Without scripts it runs none, and the rules see a request that no script has
// changed. With scripts it takes the request through a copy of the virtual
// service: with the pools as they are, with tables and bindings that are read
// but not renewed, with rate limits that nobody has used, and with a server
// that would answer with an empty 200. What scripts write is gone afterwards.
// The Authenticator is asked, and r.Body is read. A persistence profile of the
// program that has no method Peek, which is Find without an effect, binds
// nobody.
//
// With scripts, the error is one of the tables: it wraps
// [errors.ErrUnsupported] if they have no method Peek. ExplainRequest is safe
// for concurrent use.
func (vs *VirtualService) ExplainRequest(r *http.Request, scripts bool) (*Explanation, error) {
	e := vs.explain(r)
	if !scripts {
		return e, nil
	}
	shadow, err := vs.current.Load().shadow(e)
	if err != nil {
		return nil, err
	}
	e.Scripts, e.Run = nil, &ExplainedRun{}
	answer := &explainedAnswer{header: http.Header{}}
	serveExplained(shadow, answer, r)
	e.Run.Response = answer.response(e.Run.status)
	return e, nil
}

// An Explanation is what would become of a request. Its JSON has the names of
// the tags.
type Explanation struct {
	Client   string `json:"client"`             // address and port
	Via      string `json:"via,omitempty"`      // the peer, if it is a proxy of the client
	Location string `json:"location,omitempty"` // as Record.Location

	// What each policy that has rules tries, as text for people; one line for
	// each rule, and indented ones for its conditions.
	NetworkSecurity string `json:"network_security,omitempty"`
	HTTPSecurity    string `json:"http_security,omitempty"` // the same
	HTTPRequest     string `json:"http_request,omitempty"`  // the same
	// Refused is why the request would be refused with status 400 before the
	// HTTP policies.
	Refused string `json:"refused,omitempty"`

	// Scripts are the names of the scripts, if they were not run.
	Scripts []string `json:"scripts,omitempty"`
	// Run is what the whole virtual service would do; nil without scripts.
	Run *ExplainedRun `json:"run,omitempty"`
}

// An ExplainedRun is what a virtual service would do with a request, as its
// [Record] says.
type ExplainedRun struct {
	// The rules that decide, as in Record.
	NetworkRule  string   `json:"network_rule,omitempty"`
	SecurityRule string   `json:"security_rule,omitempty"` // the same
	RequestRule  string   `json:"request_rule,omitempty"`  // the same
	ResponseRule string   `json:"response_rule,omitempty"` // the same
	DryRun       []string `json:"dry_run,omitempty"`       // rules in dry run with their actions
	Pool         string   `json:"pool,omitempty"`          // its name
	Server       string   `json:"server,omitempty"`        // address and port
	Persistence  string   `json:"persistence,omitempty"`   // the text of Record.Outcome
	Log          []string `json:"log,omitempty"`           // what scripts log
	ScriptErrors []string `json:"script_errors,omitempty"` // how scripts failed
	Error        string   `json:"error,omitempty"`         // why there is no answer of a server
	Closed       bool     `json:"closed,omitempty"`        // the client's connection

	Request  *ExplainedMessage `json:"request,omitempty"`  // that the server would get; nil: none
	Response *ExplainedMessage `json:"response,omitempty"` // that the client would get; nil: none

	client string
	status int
}

// An ExplainedMessage is a request or a response.
type ExplainedMessage struct {
	Method string      `json:"method,omitempty"` // of a request, like the next two
	URI    string      `json:"uri,omitempty"`    // path and query
	Host   string      `json:"host,omitempty"`   // as the server would get it
	Status int         `json:"status,omitempty"` // of a response
	Header http.Header `json:"header,omitempty"` // without Host
	Body   string      `json:"body,omitempty"`   // of a response
}

// explain tries the policies.
func (vs *VirtualService) explain(r *http.Request) *Explanation {
	s := vs.current.Load()
	tx := newTransaction(vs, s, nowhere{}, r)
	e := &Explanation{Client: addrText(tx.client), Location: s.location(tx.client.Addr())}
	if tx.source != tx.client {
		e.Via = addrText(tx.source)
	}
	if len(s.NetworkSecurity) > 0 {
		e.NetworkSecurity = s.network.Explain(tx.source, tx.local)
	}
	if err := cmp.Or(judgeReceived(r), judgeHead(r)); err != nil {
		e.Refused = err.Error()
		return e
	}
	tx.fillIn()
	if len(s.HTTPSecurity) > 0 {
		e.HTTPSecurity = s.security.Explain(tx)
	}
	if len(s.HTTPRequest) > 0 {
		e.HTTPRequest = s.request.Explain(tx)
	}
	for _, script := range s.Scripts {
		e.Scripts = append(e.Scripts, script.Name())
	}
	return e
}

// String returns the explanation as text for people.
func (e *Explanation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "client %s", e.Client)
	if e.Via != "" {
		fmt.Fprintf(&b, " by way of %s", e.Via)
	}
	b.WriteByte('\n')
	if e.Location != "" {
		fmt.Fprintf(&b, "location %s\n", e.Location)
	}
	writePart(&b, "network security", e.NetworkSecurity)
	if e.Refused != "" {
		fmt.Fprintf(&b, "refused with status 400: %s\n", e.Refused)
	}
	writePart(&b, "HTTP security", e.HTTPSecurity)
	writePart(&b, "HTTP request", e.HTTPRequest)
	if len(e.Scripts) > 0 {
		fmt.Fprintf(&b, "scripts, which were not run: %s\n", strings.Join(e.Scripts, ", "))
	}
	if e.Run != nil {
		b.WriteByte('\n')
		e.Run.write(&b)
	}
	return b.String()
}

// writePart writes the explanation of a policy, if there is one.
func writePart(b *strings.Builder, name, text string) {
	if text == "" {
		return
	}
	b.WriteString(name + ":\n")
	for line := range strings.Lines(text) {
		b.WriteString("    " + line)
	}
}

// write writes the run as text for people.
func (e *ExplainedRun) write(w io.Writer) {
	b := bufio.NewWriter(w)
	defer b.Flush()
	fact := func(name string, values ...string) {
		for _, s := range values {
			if s != "" {
				fmt.Fprintf(b, "%-14s %s\n", name, s)
			}
		}
	}
	fact("client", e.client)
	fact("network rule", e.NetworkRule)
	fact("security rule", e.SecurityRule)
	fact("request rule", e.RequestRule)
	fact("dry run", e.DryRun...)
	fact("pool", e.Pool)
	fact("server", e.Server)
	fact("persistence", e.Persistence)
	fact("log", e.Log...)
	fact("script error", e.ScriptErrors...)
	fact("error", e.Error)
	if e.Closed {
		fact("closed", "the client's connection")
	}
	if m := e.Request; m != nil {
		fmt.Fprintf(b, "\nThe server gets:\n%s %s\nHost: %s\n", m.Method, m.URI, m.Host)
		writeHeader(b, m.Header)
	}
	if m := e.Response; m != nil {
		fmt.Fprintf(b, "\nThe client gets:\n%d %s\n", m.Status, http.StatusText(m.Status))
		writeHeader(b, m.Header)
		if m.Body != "" {
			fmt.Fprintf(b, "\n%s\n", strings.TrimSuffix(m.Body, "\n"))
		}
	}
}

func writeHeader(b *bufio.Writer, h http.Header) {
	for _, name := range slices.Sorted(maps.Keys(h)) {
		for _, v := range h[name] {
			fmt.Fprintf(b, "%s: %s\n", name, v)
		}
	}
}

// describe takes the facts from the record of a request.
func (e *ExplainedRun) describe(r *Record) {
	e.client, e.status = addrText(r.Client), r.Status
	e.NetworkRule, e.SecurityRule, e.RequestRule, e.ResponseRule = r.NetworkRule, r.SecurityRule, r.RequestRule, r.ResponseRule
	e.Pool, e.Server, e.Persistence = r.Pool, serverText(r.Server), r.Outcome.String()
	e.Closed = r.Closed
	for _, m := range r.Monitored {
		e.DryRun = append(e.DryRun, m.Rule+": "+m.Action.String())
	}
	for _, line := range r.Log {
		e.Log = append(e.Log, fmt.Sprint(line))
	}
	for _, err := range r.ScriptErrors {
		e.ScriptErrors = append(e.ScriptErrors, err.Message)
	}
	if r.Error != nil {
		e.Error = r.Error.Error()
	}
}

func serverText(addr netip.AddrPort) string {
	if !addr.IsValid() {
		return ""
	}
	return addr.String()
}

// answer takes the place of servers.
func (e *ExplainedRun) answer(r *http.Request) *http.Response {
	h := r.Header.Clone()
	if h.Get("User-Agent") == "" {
		h.Del("User-Agent") // it keeps a transport from adding its own
	}
	e.Request = &ExplainedMessage{Method: r.Method, URI: r.URL.RequestURI(), Host: r.Host, Header: h}
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, Body: http.NoBody, Request: r,
	}
}

// serveExplained lets a service answer a request.
func serveExplained(vs *VirtualService, w http.ResponseWriter, r *http.Request) {
	defer func() {
		// A connection that is closed ends this way; the record says so.
		p := recover()
		if err, is := p.(error); p != nil && !(is && errors.Is(err, http.ErrAbortHandler)) {
			panic(p)
		}
	}()
	vs.ServeHTTP(w, r)
}

// An explainedAnswer is what the client would get.
type explainedAnswer struct {
	header http.Header
	body   strings.Builder
}

// Header implements http.ResponseWriter.
func (a *explainedAnswer) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter.
func (a *explainedAnswer) WriteHeader(int) {}

// Write implements http.ResponseWriter.
func (a *explainedAnswer) Write(p []byte) (int, error) { return a.body.Write(p) }

func (a *explainedAnswer) response(status int) *ExplainedMessage {
	if status == 0 {
		return nil
	}
	return &ExplainedMessage{Status: status, Header: a.header, Body: a.body.String()}
}

// nowhere takes the response of a request that is only explained.
type nowhere struct{}

func (nowhere) Header() http.Header         { return nil }
func (nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (nowhere) WriteHeader(int)             {}
