package limpet

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"time"

	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/histogram"
)

// A Tracer follows requests for distributed tracing. Package tracing, a module
// of its own, has one for OpenTelemetry. It must be safe for concurrent use.
type Tracer interface {
	// Request begins the trace of a request as received, which it must not
	// change. trusted reports whether the peer is one of
	// [Clients].TrustedProxies. The context that it returns is that of the
	// request from then on, also for wrapped handlers and transports, and must
	// be derived from ctx. With a nil Trace, the request is not traced and
	// keeps ctx.
	Request(ctx context.Context, r *http.Request, trusted bool) (context.Context, Trace)
}

// A Trace follows one request. Its methods are called in the goroutine that
// serves the request, and none after Finish.
type Trace interface {
	// ID returns the identifier of the trace, 32 hexadecimal digits, for
	// [Record].TraceID. It is empty if the trace is not kept. It is called
	// once, at the beginning.
	ID() string
	// Begin says that a step of the request begins: a "script", whose name is
	// that of the script, a blank, and the event; or the wait in the "queue"
	// of a pool. end is called when the step ends; err says why a script has
	// failed.
	Begin(step, name string) (end func(err error))
	// Send is called before the request r is sent to a server, for each attempt
	// of a service's own proxy. It may change the header and the context of r,
	// which belong to this attempt. attempt is 1 for the first server. end gets
	// the status of the response when its header has arrived, or the reason why
	// there is none.
	Send(r *http.Request, server netip.AddrPort, attempt int) (end func(status int, err error))
	// Finish ends the trace, once. r is the record of the request. If the
	// connection was upgraded or hijacked, or becomes a tunnel, Finish is
	// called at that time, and r describes the request so far. Finish must
	// neither change nor keep r.
	Finish(r *Record)
}

// The steps of [Trace].Begin.
const (
	stepScript = "script"
	stepQueue  = "queue"
)

// traced is what a transaction needs for its trace.
type traced struct {
	trace   Trace       // nil without one, or when it has ended
	begun   bool        // there has been one
	waiting func(error) // ends the step of the queue; nil outside
}

// startTrace begins the trace of a request, if it is to have one.
func (tx *transaction) startTrace() {
	if tx.s.Tracer == nil {
		return
	}
	ctx, trace := tx.s.Tracer.Request(tx.shared.Context, tx.r, tx.trusted())
	if trace == nil {
		return
	}
	tx.shared.Context, tx.trace, tx.begun = ctx, trace, true
	tx.record.TraceID = trace.ID()
}

// endTrace ends the trace with the record of the request.
func (tx *transaction) endTrace() {
	if trace := tx.trace; trace != nil {
		tx.trace = nil
		trace.Finish(&tx.record)
	}
}

// endTraceEarly ends the trace of a request whose connection others take over,
// perhaps for hours.
func (tx *transaction) endTraceEarly() {
	trace := tx.trace
	if trace == nil {
		return
	}
	tx.trace = nil
	before := tx.record
	tx.describe()
	r := tx.record
	tx.record = before // it is described at its end
	r.Duration = time.Since(r.Start)
	r.Status, r.Bytes, r.Tried = int(tx.rw.status), tx.rw.bytes, tx.route.Tried
	r.Outcome = tx.outcomeSoFar()
	trace.Finish(&r)
}

// runScript runs a script as a step of the trace.
func (tx *transaction) runScript(script *datascript.Script, ev datascript.Event) (err error) {
	if tx.trace == nil || !script.Handles(ev) {
		return tx.s.engine.Run(tx.shared, script, ev, tx)
	}
	end := tx.trace.Begin(stepScript, script.Name()+" "+ev.String())
	err = errPanic
	defer func() { end(err) }()
	err = tx.s.engine.Run(tx.shared, script, ev, tx)
	return err
}

// errPanic ends a step that does not return.
var errPanic = errors.New("panic")

// sendTraced sends an attempt, whose header may be changed for the trace.
func (t choosing) sendTraced(tx *transaction, req *http.Request) (res *http.Response, err error) {
	out := *req
	if out.Header = req.Header.Clone(); out.Header == nil {
		out.Header = make(http.Header)
	}
	var server netip.AddrPort
	if s := tx.route.Server; s != nil {
		server = s.Addr()
	}
	end := tx.trace.Send(&out, server, tx.route.Tried)
	err = errPanic
	defer func() {
		if err != nil {
			end(0, err)
			return
		}
		end(res.StatusCode, nil)
	}()
	return t.exchange(&out)
}

// observed is the trace for what a transport reports: nil for a wrapped
// handler, which may send from another goroutine.
func (tx *transaction) observed() Trace {
	if !tx.proxied {
		return nil
	}
	return tx.trace
}

// keepExemplar keeps a request whose trace is kept as an example of a duration.
func (tx *transaction) keepExemplar(all *histogram.Exemplars, d time.Duration) {
	if tx.trace != nil && tx.record.TraceID != "" {
		all.Keep(Exemplar{TraceID: tx.record.TraceID, Value: d, At: time.Now()})
	}
}

// traceOf returns the identifier of the trace that a request belongs to (W3C
// Trace Context, section 3.2); empty if it is missing or not valid.
func traceOf(h http.Header) string {
	const length = len("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	values := h["Traceparent"]
	if len(values) != 1 || len(values[0]) < length {
		return ""
	}
	v, rest := values[0][:length], values[0][length:]
	version, id, parent := v[:2], v[3:35], v[36:52]
	const zero = "00000000000000000000000000000000"
	switch {
	case v[2] != '-' || v[35] != '-' || v[52] != '-':
	case !isLowerHex(version) || !isLowerHex(id) || !isLowerHex(parent) || !isLowerHex(v[53:]):
	case version == "ff" || version == "00" && rest != "" || rest != "" && rest[0] != '-':
	case id == zero || parent == zero[:len(parent)]:
	default:
		return id
	}
	return ""
}

// lowerHex are the hexadecimal digits that a header of traces may have.
var lowerHex = func() (digits [256]bool) {
	for _, c := range "0123456789abcdef" {
		digits[c] = true
	}
	return digits
}()

func isLowerHex(s string) bool {
	for i := range len(s) {
		if !lowerHex[s[i]] {
			return false
		}
	}
	return true
}
