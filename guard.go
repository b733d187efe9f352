package limpet

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/limpetlb/limpet/internal/http1"
	"github.com/limpetlb/limpet/internal/httpfield"
)

// Rules, scripts, the log and the server must read a request in one way. So the
// same function judges its head twice: as received, before anything reads it;
// and as it is to be sent, after policies and scripts and before a server is
// chosen.

// A malformedError says why a request cannot be forwarded.
type malformedError struct{ text string }

func (e *malformedError) Error() string { return "malformed request: " + e.text }

func malformed(format string, args ...any) error {
	return &malformedError{fmt.Sprintf(format, args...)}
}

// admit runs before all stages that read a request. It refuses a request that
// two programs could read in two ways, and adds a missing path or host.
func admit(tx *transaction) {
	r := tx.r
	if tx.conn != nil && tx.conn.Crowded() {
		tx.rw.closeAfter() // others wait for the connection
	}
	err := judgeReceived(r)
	if err == nil {
		err = judgeHead(r)
	}
	if err != nil {
		tx.record.Error = err
		tx.rw.closeAfter() // the bytes after it may be anything
		tx.replyText(http.StatusBadRequest)
		return
	}
	tx.fillIn()
	if !r.ProtoAtLeast(1, 1) && r.ContentLength == 0 && len(r.Header["Content-Length"]) == 0 && mayHaveBody(r.Method) {
		// net/http does not report whether it was sent a Transfer-Encoding,
		// which HTTP/1.0 does not know: the rest may be a body, and not a
		// request.
		tx.rw.closeAfter()
	}
}

// fillIn gives a request the path or the host that it lacks.
func (tx *transaction) fillIn() {
	r := tx.r
	if r.Host == "" || r.URL.Path == "" && r.Method != http.MethodConnect || len(r.Header["Host"]) > 0 {
		settled := *r
		if r.Host == "" {
			settled.Host = tx.defaultHost()
		}
		if r.URL.Path == "" && r.Method != http.MethodConnect {
			target := *r.URL
			target.Path, target.RawPath = "/", ""
			if r.Method == http.MethodOptions && target.RawQuery == "" && !target.ForceQuery {
				target.Path = "*" // about the server as a whole (RFC 9112, section 3.2.4)
			}
			settled.URL = &target
		}
		if len(r.Header["Host"]) > 0 { // HTTP/2 leaves it beside the authority
			settled.Header = r.Header.Clone()
			delete(settled.Header, "Host")
		}
		tx.r, tx.out = &settled, &settled
	}
}

// defaultHost is the host of a request that names none, as HTTP/1.0 allows: the
// address that the client has connected to (RFC 9112, section 3.3). The server
// must get a host, and the same one that rules, scripts and the log have seen.
func (tx *transaction) defaultHost() string {
	switch {
	case tx.r.URL.Host != "":
		return tx.r.URL.Host
	case !tx.local.IsValid():
		return "localhost"
	}
	addr := tx.local.Addr().WithZone("").String()
	if tx.local.Addr().Is6() {
		addr = "[" + addr + "]"
	}
	port := uint16(80)
	if tx.Encrypted() {
		port = 443
	}
	if tx.local.Port() == port {
		return addr
	}
	return addr + ":" + strconv.Itoa(int(tx.local.Port()))
}

// mayHaveBody reports whether a body is usual with a method.
func mayHaveBody(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodDelete, http.MethodTrace:
		return false
	}
	return true
}

// judgeReceived judges the part that only a received request has: the target as
// the client has written it.
func judgeReceived(r *http.Request) error {
	if r.Host == "" && r.ProtoAtLeast(1, 1) && r.RequestURI != "" {
		return malformed("no host")
	}
	for _, host := range r.Header["Host"] {
		if !strings.EqualFold(host, r.Host) {
			return malformed("host %s and authority %s", quoted(withoutUser(host)), quoted(withoutUser(r.Host)))
		}
	}
	if r.ProtoMajor >= 2 {
		// net/http goes by the flag that ends a request, and by the first of
		// several lengths.
		for _, length := range r.Header["Content-Length"] {
			n, err := strconv.ParseUint(length, 10, 63)
			if err != nil || length != r.Header["Content-Length"][0] || n > 0 && r.ContentLength == 0 {
				return malformed("length %s", quoted(length))
			}
		}
	}
	target := r.RequestURI
	if target == "" { // a request made by a program
		return nil
	}
	if !httpfield.IsTarget(target) {
		return malformed("target %s has a blank, a control character or #", quoted(targetOf(r)))
	}
	if r.ProtoMajor >= 2 && r.Method != http.MethodConnect && target[0] != '/' && target != "*" {
		return malformed("target %s is no path", quoted(targetOf(r)))
	}
	return nil
}

// judgeHead judges the method, the target and the host of a request.
func judgeHead(r *http.Request) error {
	switch u := r.URL; {
	case !httpfield.IsToken(r.Method):
		return malformed("method %s", quoted(r.Method))
	case u == nil:
		return malformed("no target")
	case u.Opaque != "":
		return malformed("target %s is no path", quoted(targetOf(r)))
	case u.User != nil:
		return malformed("target with a user")
	case u.Scheme != "" && (u.Scheme != "http" && u.Scheme != "https" || u.Host == ""):
		return malformed("target %s is no path and no http URL", quoted(targetOf(r)))
	case r.Host != "" && !httpfield.IsAuthority(r.Host):
		return malformed("host %s", quoted(withoutUser(r.Host)))
	case u.Host != "" && !httpfield.IsAuthority(u.Host):
		return malformed("host %s", quoted(withoutUser(u.Host)))
	case !httpfield.IsTarget(u.RawQuery):
		return malformed("query with a blank, a control character or #")
	case r.Method == http.MethodConnect && r.ProtoMajor < 2:
		if u.Host == "" || u.Path != "" {
			return malformed("target %s of CONNECT is no host with a port", quoted(targetOf(r)))
		}
		return nil
	case u.Path == "":
		return nil
	case u.Path == "*" && u.Scheme == "":
		if r.Method != http.MethodOptions || u.RawQuery != "" {
			return malformed("target * with method %s", r.Method)
		}
		return nil
	case u.Path[0] != '/':
		return malformed("target %s is no path", quoted(targetOf(r)))
	}
	return nil
}

// quoted quotes the beginning of a text from a client.
func quoted(s string) string {
	const most = 100
	if len(s) > most {
		return fmt.Sprintf("%q…", s[:most])
	}
	return fmt.Sprintf("%q", s)
}

// targetOf is the target of a request that is refused, without a query and a
// user, which may contain a secret.
func targetOf(r *http.Request) string {
	target := r.RequestURI
	if target == "" && r.URL != nil {
		target = r.URL.String()
	}
	if i := strings.IndexAny(target, "?#"); i >= 0 {
		target = target[:i]
	}
	if strings.HasPrefix(target, "/") {
		return target
	}
	return withoutUser(target)
}

// withoutUser returns an authority, or a target that begins with one, without
// the part before "@", which is often a name and a password.
func withoutUser(s string) string {
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		return "REDACTED" + s[i:]
	}
	return s
}

// loggedPath is the path of a request in records.
func loggedPath(r *http.Request) string {
	if r.URL == nil || r.URL.Opaque != "" {
		return targetOf(r)
	}
	return http1.Path(r.URL)
}

// A guard runs after policies and scripts, and forwards only requests that
// every server reads as limpet does.
type guard struct{ next http.Handler }

// ServeHTTP answers requests that must not go on.
func (g guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if tx, ok := transactionOf(r.Context()); ok {
		tx.proxied = true
		if status, err := tx.refusal(r); status != 0 {
			tx.refuse(status, err)
			return
		}
	}
	g.next.ServeHTTP(w, r)
}

// refuse answers a request that no server must get.
func (tx *transaction) refuse(status int, err error) {
	if err != nil {
		tx.record.Error = err
	}
	if status == http.StatusBadRequest {
		tx.rw.closeAfter()
	}
	tx.replyText(status)
}

// refusal is the status that a request is refused with, or 0, and the reason.
// The request has been admitted, so a policy or a script has caused a fault of
// its method, host, target or fields; the client has caused a fault of its
// decoded path.
func (tx *transaction) refusal(out *http.Request) (status int, err error) {
	if out.Method == http.MethodConnect {
		return http.StatusNotImplemented, nil // a tunnel to wherever the client likes
	}
	var faults error
	if tx.out != tx.r || tx.r.Context().Value(http.ServerContextKey) == nil {
		faults = errors.Join(judgeHead(out), judgeFields(out.Header), judgeFields(out.Trailer))
		if out.Host == "" {
			faults = errors.Join(faults, errors.New("no host"))
		}
	}
	if faults == nil && strings.ContainsFunc(out.URL.Path, isControl) { // some servers end it there
		faults = malformed("path with a control character")
		if strings.ContainsFunc(tx.r.URL.Path, isControl) {
			return http.StatusBadRequest, faults
		}
	}
	if faults != nil {
		return http.StatusInternalServerError, fmt.Errorf("not sent, after the edits of policies and scripts: %w", faults)
	}
	return 0, nil
}

// judgeFields judges the names and values of a header or a trailer. For a
// received request, net/http has done so.
func judgeFields(h http.Header) error {
	for name, values := range h {
		if !httpfield.IsToken(name) {
			return malformed("name %s of a header", quoted(name))
		}
		for _, v := range values {
			if !httpfield.IsValue(v) {
				return malformed("value of the header %s", name)
			}
		}
	}
	return nil
}

func isControl(c rune) bool { return c < ' ' || c == 0x7f }
