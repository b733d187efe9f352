package admin

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/fielderr"
)

// A call is one request.
type call struct {
	*Admin
	w      http.ResponseWriter
	r      *http.Request
	id     string
	route  *route // nil if there is none
	caller caller
	query  url.Values
	vs     *limpet.VirtualService // that the path names
	name   string                 // of vs
	change changeView             // what the audit log says
}

// The codes of problems.
const (
	codeBadRequest   = "bad_request"
	codeUnauthorized = "unauthorized"
	codeRole         = "role"
	codeReadOnly     = "read_only"
	codeOrigin       = "origin"
	codeNotFound     = "not_found"
	codeNoService    = "no_service"
	codeNoPool       = "no_pool"
	codeNoServer     = "no_server"
	codeNoTable      = "no_table"
	codeNoEntry      = "no_entry"
	codeNoGroup      = "no_group"
	codeNoOverride   = "no_override"
	codeMethod       = "method"
	codeConflict     = "conflict"
	codePrecondition = "precondition"
	codeTooLarge     = "too_large"
	codeMediaType    = "media_type"
	codeHost         = "host"
	codeInvalid      = "invalid"
	codeUnbounded    = "drain_unbounded"
	codeTooMany      = "too_many"
	codeNotSupported = "not_supported"
	codeUnavailable  = "unavailable"
)

// A problem is an answer that says what is wrong (RFC 9457).
type problem struct {
	Type   string  `json:"type"`             // always "about:blank"
	Title  string  `json:"title"`            // the text of the status
	Status int     `json:"status"`           // the HTTP status
	Code   string  `json:"code"`             // what is wrong, for programs
	Detail string  `json:"detail"`           // what is wrong, for people
	Fields []fault `json:"fields,omitempty"` // each fault of what was sent, or of the configuration

	retry time.Duration
}

// A fault is what is wrong with one field.
type fault struct {
	Path    string `json:"path"`             // of the field
	Message string `json:"message"`          // what is wrong
	File    string `json:"file,omitempty"`   // of the configuration
	Line    int    `json:"line,omitempty"`   // from 1
	Column  int    `json:"column,omitempty"` // from 1
}

// Error returns the detail.
func (p *problem) Error() string { return p.Detail }

// fail returns a problem.
func fail(status int, code, format string, args ...any) *problem {
	return &problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Code: code, Detail: fmt.Sprintf(format, args...)}
}

// retry says after how long the caller may try again.
func retry(p *problem, after time.Duration) *problem {
	p.retry = after
	return p
}

// badRequest is the fault of a field of a request.
func badRequest(field, format string, args ...any) *problem {
	text := fmt.Sprintf(format, args...)
	p := fail(http.StatusBadRequest, codeBadRequest, "%s: %s", field, text)
	p.Fields = []fault{{Path: field, Message: text}}
	return p
}

// invalid is the fault of a field with a value that cannot be used.
func invalid(field, format string, args ...any) *problem {
	p := badRequest(field, format, args...)
	p.Status, p.Title, p.Code = http.StatusUnprocessableEntity, http.StatusText(http.StatusUnprocessableEntity), codeInvalid
	return p
}

func notSupported(format string, args ...any) *problem {
	return fail(http.StatusNotImplemented, codeNotSupported, format, args...)
}

// unavailableRetry is when callers may ask again for what is away.
const unavailableRetry = 5 * time.Second

func unavailable(format string, args ...any) *problem {
	return retry(fail(http.StatusServiceUnavailable, codeUnavailable, format, args...), unavailableRetry)
}

// problemOf returns the problem that an error stands for.
func problemOf(err error) *problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return fail(http.StatusRequestEntityTooLarge, codeTooLarge, "the body has more than %d bytes", maxBody)
	}
	if faults := faultsOf(err); len(faults) > 0 {
		p := fail(http.StatusUnprocessableEntity, codeInvalid, "%s", faults[0].Message)
		p.Fields = faults
		return p
	}
	return unavailable("%v", err)
}

// faultsOf returns the faults that an error joins, nil if it does not name
// fields.
func faultsOf(err error) (all []fault) {
	for _, leaf := range fielderr.Leaves(err) {
		field, ok := errors.AsType[*limpet.FieldError](leaf)
		if !ok {
			continue
		}
		f := fault{Path: field.Path, Message: (&limpet.FieldError{Value: field.Value, Err: field.Err}).Error()}
		if at, ok := errors.AsType[interface {
			error
			Position() (file string, line, column int)
		}](leaf); ok {
			f.File, f.Line, f.Column = at.Position()
		}
		all = append(all, f)
	}
	return all
}

// streamed is the answer of a handler that has written one itself.
type streamed struct{}

// noContent is the answer without a body.
type noContent struct{}

// finish writes the answer, and audits a change.
func (c *call) finish(answer any, err error) {
	if err != nil {
		p := problemOf(err)
		c.audit(p)
		c.refuse(p)
		return
	}
	c.audit(nil)
	switch answer := answer.(type) {
	case streamed:
	case noContent:
		c.w.WriteHeader(http.StatusNoContent)
	case []byte:
		c.write(http.StatusOK, answer)
	default:
		c.write(http.StatusOK, encode(answer))
	}
}

// refuse writes a problem.
func (c *call) refuse(p *problem) {
	c.w.Header().Set("Content-Type", "application/problem+json")
	if p.retry > 0 {
		c.w.Header().Set("Retry-After", strconv.Itoa(int((p.retry+time.Second-1)/time.Second)))
	}
	c.write(p.Status, encode(p))
}

func (c *call) write(status int, body []byte) {
	h := c.w.Header()
	if h.Get("Content-Type") == "" {
		h.Set("Content-Type", "application/json")
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	c.w.WriteHeader(status)
	_, _ = c.w.Write(body) // the client may be gone
}

// encode returns a value as JSON with a line feed.
func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err) // the types of this package can be encoded
	}
	return b.Bytes()
}

// decode reads the body of a request.
func (c *call) decode(into any) error {
	there, err := c.decodeOptional(into)
	if err == nil && !there {
		return badRequest("body", "missing")
	}
	return err
}

// decodeOptional reads the body of a request, and reports whether there is one.
func (c *call) decodeOptional(into any) (there bool, err error) {
	d := json.NewDecoder(http.MaxBytesReader(c.w, c.r.Body, maxBody))
	d.DisallowUnknownFields()
	err = d.Decode(into)
	if errors.Is(err, io.EOF) {
		return false, nil
	}
	if err == nil {
		if _, err = d.Token(); err == nil {
			err = errors.New("more than one value")
		} else if errors.Is(err, io.EOF) {
			err = nil
		}
	}
	if err == nil { // else the rest of the body has no more time, either
		_ = http.NewResponseController(c.w).SetReadDeadline(time.Time{})
		return true, nil
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return true, err
	}
	return true, badRequest("body", "%s", strings.TrimPrefix(err.Error(), "json: "))
}

// etag returns a tag for what callers can change.
func etag(v any) string {
	sum := sha256.Sum256(encode(v))
	return `"` + hex.EncodeToString(sum[:8]) + `"`
}

// tagged sets the tag of an answer.
func (c *call) tagged(tag string) { c.w.Header().Set("Etag", tag) }

// unchanged refuses a request whose If-Match has another tag than the present
// one: somebody else has changed it since the caller has read it.
func (c *call) unchanged(tag string) error {
	values := c.r.Header.Values("If-Match")
	if len(values) == 0 {
		return nil
	}
	for value := range strings.SplitSeq(strings.Join(values, ","), ",") {
		if value = strings.TrimSpace(value); value == "*" || value == tag {
			return nil
		}
	}
	c.tagged(tag)
	return fail(http.StatusPreconditionFailed, codePrecondition, "it has changed since it was read: its tag is %s now", tag)
}

// resolve finds the service that the path names.
func (c *call) resolve() error {
	name := c.r.PathValue("vs")
	if name == "" {
		return nil
	}
	c.change.VS = name
	vs, ok := c.service(name)
	if !ok {
		return fail(http.StatusNotFound, codeNoService, "no virtual service %s", quote(name))
	}
	c.vs, c.name = vs, name
	return nil
}

// A list is a page of a list.
type list[T any] struct {
	Items []T    `json:"items"`          // in order
	Next  string `json:"next,omitempty"` // the cursor of the next page; missing after the last
}

// listOf returns a list that is one page.
func listOf[T any](items []T) list[T] {
	if items == nil {
		items = []T{}
	}
	return list[T]{Items: items}
}

// The numbers of items on a page.
const (
	defaultLimit = 100
	maxLimit     = 1000
)

// pageQuery are the parameters of lists with pages.
var pageQuery = []string{"limit", "cursor"}

// limitOf checks the number of items that a caller wants; 0 is the default.
func limitOf(n int) (int, error) {
	switch {
	case n == 0:
		return defaultLimit, nil
	case n < 0 || n > maxLimit:
		return 0, badRequest("limit", "%d is not between 1 and %d", n, maxLimit)
	}
	return n, nil
}

// quote returns a text that a caller has sent, made safe for a line.
func quote(text string) string { return fielderr.Quote(text) }

func parseQuery(raw string) (url.Values, error) { return url.ParseQuery(raw) }

// utc returns a time as JSON has it.
func utc(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC()
}

// wallClock returns the time as it comes back from a file.
func wallClock() time.Time { return time.Now().Round(0).UTC() }
