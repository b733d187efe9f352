package limpet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/limpetlb/limpet/internal/accept"
	"github.com/limpetlb/limpet/internal/httpfield"
	"github.com/limpetlb/limpet/internal/splice"
	"github.com/limpetlb/limpet/lbpool"
)

// A proxy is the handler that sends requests to servers and passes their
// responses on.
type proxy struct{ transport http.RoundTripper }

func newProxy(s *snapshot) http.Handler {
	return &proxy{&lbpool.Transport{Base: choosing{s.Transport}}}
}

// ServeHTTP forwards a request of a transaction, which it may change.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	tx, ok := transactionOf(r.Context())
	if !ok {
		panic("limpet: a request without a transaction")
	}
	protocol := ""
	if tx.r.ProtoAtLeast(1, 1) { // RFC 9110, section 7.8
		protocol = upgradeOf(r.Header)
	}
	if carriesHTTP(protocol) {
		protocol = "" // or its requests would go past us
	}
	if !isPrintable(protocol) {
		tx.refuse(http.StatusBadRequest, malformed("value of the header Upgrade"))
		return
	}
	h := &hints{w: w}
	h.trace.Got1xxResponse = h.pass
	sent := &tx.shared.sent
	sent.Context = httptrace.WithClientTrace(sent.Context, &h.trace) // which is r's
	r.Header = tx.serverHeader(r, protocol)
	r.Close = false
	if r.ContentLength == 0 {
		r.Body = nil
	}
	var body *clientBody
	if r.Body != nil {
		body = &clientBody{body: r.Body, conn: tx.conn, trailer: r.Trailer, connection: tx.r.Header["Connection"], forwarding: tx.s.Forwarding, trusted: tx.trusted()}
		body.limitTrailer() // the announced one, or all of a body that was read before
		defer body.Close()
		r.Body = body
	}

	res, err := p.transport.RoundTrip(r)
	h.end()
	if err != nil {
		if body != nil && tx.r.Context().Err() != nil {
			body.settle()
		}
		if body != nil && body.stop() {
			tx.rw.overtake()
		}
		switch cause := body.failure(); {
		case tx.ended(): // a script has answered
		case cause != nil:
			tx.failBody(cause)
		default:
			tx.fail(err)
		}
		return
	}
	if body != nil && !body.ended.Load() {
		tx.rw.overtake()
	}
	if res.StatusCode == http.StatusSwitchingProtocols {
		tx.upgrade(w, r, res, protocol)
		return
	}
	if err := tx.pass(w, res); err != nil {
		res.Body.Close()
		if tx.replaceCut(err) {
			return
		}
		tx.cutOff(err)
		if r.Context().Value(http.ServerContextKey) != nil {
			panic(http.ErrAbortHandler) // the client must not take this for the end
		}
	}
}

// replaceCut answers in place of a server's response that is cut off, if
// nothing of it has gone to the client. It reports false otherwise, or if there
// is an answer already.
func (tx *transaction) replaceCut(err error) bool {
	held := tx.rw.holding
	if errors.Is(err, errReplaced) || errors.As(err, new(*clientError)) || tx.rw.begun() && !held {
		return false
	}
	tx.rw.holding = false
	tx.fail(fmt.Errorf("the response is not whole: %w", err))
	if held {
		tx.rw.deliver()
	}
	return true
}

// cutOff records why a response is cut off.
func (tx *transaction) cutOff(err error) {
	switch {
	case errors.Is(err, errReplaced):
	case errors.As(err, new(*clientError)), errors.Is(tx.r.Context().Err(), context.Canceled):
		tx.record.significant(ClientGone)
	case errors.Is(err, lbpool.ErrTimeout):
		tx.record.Error = err
		tx.record.significant(ServerTimeout)
	default:
		tx.record.Error = fmt.Errorf("the response is not whole: %w", err)
		tx.record.significant(ServerFailed)
	}
}

// A clientError means that a response could not be passed on to the client.
type clientError struct{ error }

func (e *clientError) Unwrap() error { return e.error }

// A clientBody is the client's request body for a transport. Closing it, which
// transports do, does not close the body itself: that would read what the
// client may not have sent yet. It only stops further reads, as there must be
// none once the request has been served.
type clientBody struct {
	body    io.Reader
	closed  atomic.Bool
	reading atomic.Bool
	ended   atomic.Bool // or has failed
	err     error       // why it has failed; to be read once it has ended

	mu   sync.Mutex   // held while conn is informed, which must not happen once the body is closed
	conn *accept.Conn // the client's; nil if our listener has not accepted it

	trailer    http.Header // filled in at the end, and then limited to the fields for the server
	connection []string    // the client's Connection header
	forwarding Forwarding
	trusted    bool // is the peer
}

func (b *clientBody) limitTrailer() {
	limitTrailer(b.trailer, b.connection)
	for name := range b.trailer {
		if isForwarding(name) || !b.forwarding.passes(claimOf(name), b.trusted) {
			delete(b.trailer, name)
		}
	}
}

func (b *clientBody) Read(p []byte) (int, error) {
	b.reading.Store(true)
	defer b.reading.Store(false)
	if b.closed.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := b.body.Read(p)
	if err != nil {
		b.limitTrailer()
		if err != io.EOF && !b.ended.Load() {
			b.err = err
		}
		b.ended.Store(true)
		if err == io.EOF {
			b.watch()
		}
	}
	return n, err
}

// watch notes that the whole request has been read, unless the body is closed.
func (b *clientBody) watch() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed.Load() {
		watch(b.conn)
	}
}

// settle waits for a read under way when the context of the request has ended:
// net/http ends the context before a failed read returns.
func (b *clientBody) settle() {
	const limit, pause = 50 * time.Millisecond, 100 * time.Microsecond
	for until := time.Now().Add(limit); b.reading.Load() && !b.ended.Load() && time.Now().Before(until); {
		time.Sleep(pause)
	}
}

// failure is the error that reading the client's body has ended with. It is
// nil if the body has not failed, or if there is none.
func (b *clientBody) failure() error {
	if b == nil || !b.ended.Load() {
		return nil
	}
	return b.err
}

func (b *clientBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed.Store(true)
	return nil
}

// stop closes the body and reports whether somebody is still reading it.
func (b *clientBody) stop() bool {
	_ = b.Close()
	return b.reading.Load() && !b.ended.Load()
}

// hints pass on informational responses, until the response is there.
type hints struct {
	w     http.ResponseWriter
	trace httptrace.ClientTrace
	mu    sync.Mutex
	ended bool
}

var errSwitches = errors.New("server switches protocols in the middle of HTTP/2")

func (h *hints) pass(status int, header textproto.MIMEHeader) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.ended:
		return nil
	case status == http.StatusSwitchingProtocols: // of HTTP/2, which has no such thing (RFC 9113, section 8.6)
		return errSwitches
	}
	own := h.w.Header()
	before := maps.Clone(own)
	addEndToEnd(own, maps.Clone(http.Header(header))) // others may trace, too
	h.w.WriteHeader(status)
	clear(own)
	maps.Copy(own, before)
	return nil
}

func (h *hints) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = true
}

// Values that many headers share and that must not be changed.
var (
	noAgent      = []string{""} // keeps a transport from naming itself
	schemeHTTP   = []string{"http"}
	schemeHTTPS  = []string{"https"}
	onlyTrailers = []string{"trailers"}
	onlyUpgrade  = []string{"Upgrade"}
)

// serverHeader returns the header for the server: that of r, without the fields
// between the client and us, and with the fields about the client. Policies and
// scripts set fields after the client's Connection header was honoured; see
// settleConnection.
func (tx *transaction) serverHeader(r *http.Request, protocol string) http.Header {
	h := make(http.Header, len(r.Header)+len(forwarding))
	trusted := tx.trusted()
	for name, values := range r.Header {
		if httpfield.IsHopByHop(name) || isForwarding(name) {
			continue
		}
		if c := claimOf(name); c != noClaim && !tx.s.Forwarding.passes(c, trusted) && (tx.out == tx.r || sameSlice(values, tx.claims[name])) {
			continue // a script may set the same value as the client
		}
		h[name] = values
	}
	for _, p := range tx.s.strippers {
		p.StripRequest(h)
	}
	removeListed(h, r.Header["Connection"])
	if httpfield.HasToken(r.Header["Te"], "trailers") {
		h["Te"] = onlyTrailers
	}
	if protocol != "" {
		h["Connection"], h["Upgrade"] = onlyUpgrade, []string{protocol}
	}
	if _, ok := h["User-Agent"]; !ok {
		h["User-Agent"] = noAgent
	}
	tx.addForwarding(h, r, trusted)
	return h
}

// trusted reports whether the peer is a trusted proxy.
func (tx *transaction) trusted() bool { return tx.s.resolver.Trusts(tx.source.Addr()) }

// addHeader adds the values of another header, which is not needed afterwards.
func addHeader(to, from http.Header) {
	for name, values := range from {
		addValues(to, name, values)
	}
}

func addValues(to http.Header, name string, values []string) {
	if own, ok := to[name]; ok {
		values = append(slices.Clip(own), values...)
	}
	to[name] = values
}

// addEndToEnd adds the fields of a server's header that are for the client (RFC
// 9110, section 7.6.1). The header is not needed afterwards.
func addEndToEnd(to, from http.Header) {
	removeListed(from, from["Connection"])
	for name, values := range from {
		if !httpfield.IsHopByHop(name) {
			addValues(to, name, values)
		}
	}
}

// removeListed removes the fields that a Connection header lists.
func removeListed(h http.Header, connection []string) {
	for name := range httpfield.Elements(connection) {
		h.Del(name)
	}
}

// limitTrailer removes from a trailer the hop-by-hop fields, and those that
// would frame a body (RFC 9110, section 6.5.1).
func limitTrailer(trailer http.Header, connection []string) {
	removeListed(trailer, connection)
	maps.DeleteFunc(trailer, func(name string, _ []string) bool { return httpfield.IsHopByHop(name) || name == "Content-Length" })
}

// pass sends the server's response to the client. An error means that a part is
// missing. If the part of the body that has already arrived is faulty, pass
// returns the error before it sends anything.
func (tx *transaction) pass(w http.ResponseWriter, res *http.Response) error {
	connection := res.Header["Connection"]
	limitTrailer(res.Trailer, connection)
	announced := len(res.Trailer)
	names := ""
	if announced > 0 { // before the body is read, which may end with more
		names = strings.Join(slices.Sorted(maps.Keys(res.Trailer)), ", ")
	}
	var body passing
	if res.Body != http.NoBody {
		body = passing{w: w, control: http.NewResponseController(w), res: res, buffer: splice.NewBuffer()}
		defer body.buffer.Free()
		if err := body.prepare(); err != nil {
			return err
		}
	}
	h := w.Header()
	tx.rw.passing = true
	addEndToEnd(h, res.Header)
	if announced > 0 && tx.r.ProtoAtLeast(1, 1) {
		h.Add("Trailer", names)
	}
	w.WriteHeader(res.StatusCode)
	if res.Body != http.NoBody {
		if err := body.pass(); err != nil {
			return err
		}
	}
	res.Body.Close()

	limitTrailer(res.Trailer, connection) // has fields that were not announced, too
	if len(res.Trailer) == 0 || !tx.r.ProtoAtLeast(1, 1) {
		return nil
	}
	if tx.rw.holding { // or the fields of the trailer would also go out in the header
		if err := tx.rw.release(); err != nil {
			return err
		}
	}
	// The server of a response that is short and not flushed would tell its
	// length, which leaves no room for a trailer.
	_ = http.NewResponseController(w).Flush()
	if len(res.Trailer) == announced {
		addHeader(h, res.Trailer)
		return nil
	}
	for name, values := range res.Trailer {
		h[http.TrailerPrefix+name] = values
	}
	return nil
}

// A passing passes on a response's body as it comes.
type passing struct {
	w       http.ResponseWriter
	control *http.ResponseController
	res     *http.Response
	buffer  *splice.Buffer
	slow    bool // the header goes ahead, because the body may take its time
	first   int  // bytes that were read before the header went out
	ended   bool // and they are all
}

// prepare reads the part of the body that has already arrived.
func (b *passing) prepare() error {
	if b.slow = mayTakeTime(b.res); b.slow {
		return nil
	}
	n, err := b.res.Body.Read(b.buffer[:])
	b.first, b.ended = n, err == io.EOF
	if b.ended {
		return nil
	}
	return err
}

// pass passes on the body, behind the header.
func (b *passing) pass() error {
	if b.slow {
		if err := b.control.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return &clientError{err}
		}
	} else if err := b.write(b.first, b.ended); err != nil || b.ended {
		return err
	}
	for {
		n, err := b.res.Body.Read(b.buffer[:])
		ended := err == io.EOF
		if fault := b.write(n, ended); fault != nil || ended {
			return fault
		}
		if err != nil {
			return err
		}
	}
}

// write writes n bytes of the buffer.
func (b *passing) write(n int, ended bool) error {
	if n > 0 {
		if _, err := b.w.Write(b.buffer[:n]); err != nil {
			return &clientError{err}
		}
	}
	// The part that has arrived must not be lost if the rest does not follow.
	// At the end of a body of unknown length, a flush keeps net/http from
	// computing and sending the length.
	if !ended || b.res.ContentLength < 0 {
		_ = b.control.Flush() // if it fails, so will the next write
	}
	return nil
}

// mayTakeTime reports whether nothing of a response's body has arrived yet. If
// the transport does not tell, it reports whether the response is a stream.
func mayTakeTime(res *http.Response) bool {
	if b, ok := res.Body.(interface{ Buffered() (int, bool) }); ok {
		if n, known := b.Buffered(); known {
			return n == 0
		}
	}
	return res.ContentLength < 0 || isEventStream(res.Header)
}

// isEventStream reports whether a response is a stream of server-sent events.
func isEventStream(h http.Header) bool {
	mediaType, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return strings.EqualFold(textproto.TrimString(mediaType), "text/event-stream")
}

// upgradeOf is the protocol that a request asks for, or a response switches to.
func upgradeOf(h http.Header) string {
	if !httpfield.HasToken(h["Connection"], "Upgrade") {
		return ""
	}
	return h.Get("Upgrade")
}

// carriesHTTP reports whether a list of protocols, as in the field Upgrade, has
// another version of HTTP, or a protocol that carries HTTP.
func carriesHTTP(protocols string) bool {
	for name := range strings.SplitSeq(protocols, ",") {
		name, _, _ = strings.Cut(textproto.TrimString(name), "/")
		switch strings.ToLower(name) {
		case "h2c", "h2", "h3", "http", "tls":
			return true
		}
	}
	return false
}

// offers reports whether a list of protocols, as in the field Upgrade, equals
// or contains protocol.
func offers(protocols, protocol string) bool {
	return protocol != "" && (strings.EqualFold(protocols, protocol) || httpfield.HasToken([]string{protocols}, protocol))
}

func isPrintable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// upgrade joins the connections of client and server after the server has
// switched protocols, unless a response stage prevents it.
func (tx *transaction) upgrade(w http.ResponseWriter, r *http.Request, res *http.Response, protocol string) {
	defer res.Body.Close()
	server, ok := res.Body.(io.ReadWriteCloser)
	if got := upgradeOf(res.Header); !ok || !offers(protocol, got) {
		tx.fail(errors.New("server switches to a protocol that the client has not asked for"))
		return
	}
	settleConnection(res.Header)
	tx.rw.upgrade = res
	if !tx.rw.begin(res.StatusCode) {
		return
	}
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		tx.fail(fmt.Errorf("the client's connection cannot be upgraded: %w", err))
		return
	}
	defer client.Close()
	h, switching := w.Header(), res.Header["Upgrade"]
	addEndToEnd(h, res.Header)
	h["Connection"], h["Upgrade"] = onlyUpgrade, switching
	head := http.Response{StatusCode: res.StatusCode, Status: res.Status, ProtoMajor: 1, ProtoMinor: 1, Header: h}
	if err := head.Write(buffered); err != nil || buffered.Flush() != nil {
		return // the client is gone
	}
	splice.Join(r.Context(), client, buffered.Reader, server)
}
