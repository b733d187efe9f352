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

// Rules, scripts, the log and the server must read a request in one way. So
// its head is judged twice by the same function: as received, before anybody
// looks at it; and as it is to be sent, after policies and scripts have had
// their say and before a server is chosen.

// A malformedError says why a request cannot be forwarded by anybody.
type malformedError struct{ text string }

func (e *malformedError) Error() string { return "malformed request: " + e.text }

func malformed(format string, args ...any) error {
	return &malformedError{fmt.Sprintf(format, args...)}
}

// admit comes before all stages that read a request: it refuses what two programs could read
// in two ways, and gives a target without a path its path.
func admit(tx *Transaction) {
	r := tx.r
	if tx.conn != nil && tx.vs.gate.Crowded() {
		tx.rw.closeAfter() // others wait for the place
	}
	err := judgeReceived(r)
	if err == nil {
		err = judgeHead(r)
	}
	if err != nil {
		tx.record.Error = err
		tx.rw.closeAfter() // who knows what comes behind it
		tx.replyText(http.StatusBadRequest)
		return
	}
	if r.URL.Path == "" && r.Method != http.MethodConnect || len(r.Header["Host"]) > 0 {
		settled := *r
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
	if !r.ProtoAtLeast(1, 1) && r.ContentLength == 0 && len(r.Header["Content-Length"]) == 0 && mayHaveBody(r.Method) {
		// net/http does not tell whether it was sent a Transfer-Encoding, which
		// HTTP/1.0 does not know: the rest may be a body, and not a request.
		tx.rw.closeAfter()
	}
}

// mayHaveBody reports whether a body is usual with a method.
func mayHaveBody(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodDelete, http.MethodTrace:
		return false
	}
	return true
}

// judgeReceived judges what only a request as received has: the target as the
// client has written it.
func judgeReceived(r *http.Request) error {
	if r.Host == "" && r.ProtoAtLeast(1, 1) && r.RequestURI != "" {
		return malformed("no host")
	}
	for _, host := range r.Header["Host"] {
		if !strings.EqualFold(host, r.Host) {
			return malformed("host %s and authority %s", quoted(host), quoted(r.Host))
		}
	}
	if r.ProtoMajor >= 2 {
		// net/http goes by the flag that ends a request, and by the first of several lengths.
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
		return malformed("target %s is no path", quoted(target))
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
		return malformed("host %s", quoted(r.Host))
	case u.Host != "" && !httpfield.IsAuthority(u.Host):
		return malformed("host %s", quoted(u.Host))
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

// quoted shows the beginning of what a client has sent.
func quoted(s string) string {
	const most = 100
	if len(s) > most {
		return fmt.Sprintf("%q…", s[:most])
	}
	return fmt.Sprintf("%q", s)
}

// targetOf is the target of a request that is refused, without a query, which
// may hold a secret.
func targetOf(r *http.Request) string {
	target := r.RequestURI
	if target == "" && r.URL != nil {
		target = r.URL.String()
	}
	if i := strings.IndexAny(target, "?#"); i >= 0 {
		target = target[:i]
	}
	return target
}

// loggedPath is the path of a request in records.
func loggedPath(r *http.Request) string {
	if r.URL == nil || r.URL.Opaque != "" {
		return targetOf(r)
	}
	return http1.Path(r.URL)
}

// A guard lets only those requests go on to servers that every server reads
// as we do, after policies and scripts have had their say.
type guard struct{ next http.Handler }

// ServeHTTP answers for what must not go on.
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

// refuse answers in place of a server that must not get the request.
func (tx *Transaction) refuse(status int, err error) {
	if err != nil {
		tx.record.Error = err
	}
	tx.replyText(status)
}

// refusal is the status that a request is refused with, or 0, and the reason.
// A request that is to be sent has been admitted, so what is wrong with its
// method, host, target or fields is the doing of a policy or a script; what is
// wrong with its path, once decoded, is the client's.
func (tx *Transaction) refusal(out *http.Request) (status int, err error) {
	if out.Method == http.MethodConnect {
		return http.StatusNotImplemented, nil // a tunnel to wherever the client likes
	}
	if tx.out != tx.r || tx.r.Context().Value(http.ServerContextKey) == nil {
		if err := errors.Join(judgeHead(out), judgeFields(out.Header), judgeFields(out.Trailer)); err != nil {
			return http.StatusInternalServerError, fmt.Errorf("not sent, after the edits of policies and scripts: %w", err)
		}
	}
	if strings.ContainsFunc(out.URL.Path, isControl) {
		return http.StatusBadRequest, malformed("path with a control character") // some servers end it there
	}
	return 0, nil
}

// judgeFields judges the names and values of a header or a trailer. Servers
// of net/http have done so for what they have received.
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
