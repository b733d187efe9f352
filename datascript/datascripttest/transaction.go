package datascripttest

import (
	"cmp"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/bodyrule"
	"github.com/limpetlb/limpet/internal/enumtext"
)

var (
	_ datascript.Transaction       = (*Transaction)(nil)
	_ datascript.Identifier        = (*Transaction)(nil)
	_ datascript.ForwardController = (*Transaction)(nil)
	_ datascript.BodyBufferer      = (*Transaction)(nil)
	_ datascript.OutcomeReporter   = (*Transaction)(nil)
	_ datascript.Fingerprinter     = (*Transaction)(nil)
	_ datascript.SessionReader     = (*Transaction)(nil)
)

// The addresses of a transaction that names none. Both are reserved for
// documentation (RFC 5737).
var (
	defaultClient = netip.MustParseAddrPort("192.0.2.1:1234")
	defaultLocal  = netip.MustParseAddrPort("198.51.100.1:80")
)

// A Transaction is one HTTP exchange for scripts to run on. The fields of its
// first part are what scripts see, the others are what they did; a test sets
// the former and reads the latter. The zero Transaction is a GET of
// http://www.example.com/ that has neither a server nor a response yet.
//
// A Transaction does not act on what scripts decide; [VirtualService] does. It
// belongs to one goroutine at a time.
type Transaction struct {
	// In is the request as received. Nobody changes it. Nil becomes a request
	// of http://www.example.com/ when it is asked for.
	In *http.Request
	// ClientAddr is the address of the client. The zero value means
	// In.RemoteAddr or, failing that, 192.0.2.1:1234.
	ClientAddr netip.AddrPort
	// LocalAddr is the address that the client connected to. The zero value
	// means 198.51.100.1:80.
	LocalAddr netip.AddrPort
	// Pool is the pool in use; empty before one was chosen. SelectPool sets it.
	Pool string
	// Addr is the server in use; invalid before one was chosen.
	Addr netip.AddrPort
	// Status is the status of the server's response; zero means that there is
	// none yet.
	Status int
	// Header is the header of the server's response. Scripts change it in
	// place. Nil becomes an empty one.
	Header http.Header
	// ID is the request's name; empty means "test-request".
	ID string
	// BufferedRequest is the body of the request as far as it is buffered; nil
	// if it is not.
	BufferedRequest []byte
	// BufferedInPart says that BufferedRequest is not the whole body.
	BufferedInPart bool
	// BufferedResponse is the body of the response as far as it is buffered;
	// nil if it is not.
	BufferedResponse []byte
	// Conns is how many connections of clients are open.
	Conns int
	// Failure is why there is no response; zero means 502.
	Failure int
	// NoTunnel says that the connection cannot become a tunnel. In a
	// [VirtualService] without pools none can.
	NoTunnel bool
	// Fingerprints are the fingerprints of the client's TLS implementation, by
	// kind.
	Fingerprints map[string]string
	// Attributes are those of the client's SAML session, in which each is
	// NAME=value; empty means that there is no session.
	Attributes string
	// Claims are those of the client's tokens.
	Claims []Claim

	// Out is the request with the scripts' changes, a copy of In; nil as long
	// as no script asked for one to change.
	Out *http.Request
	// Selected is the last choice of a pool; nil without one.
	Selected *Selection
	// Answer is the first reply; nil without one.
	Answer *Response
	// Closed is how the client's connection is to be closed.
	Closed Closing
	// Lines are the lines logged, in order.
	Lines []string
	// User is the name that a script gave the user.
	User string
	// ServerTimeout is how long to wait for the server; zero means as long as
	// ever.
	ServerTimeout time.Duration
	// RequestBuffer and ResponseBuffer are how much of each body is to be
	// buffered, in bytes.
	RequestBuffer, ResponseBuffer int
	// LongerBody is what a script wants done with a longer body of the request:
	// "head", "refuse", or nothing.
	LongerBody string
	// Tunneled says that the connection becomes a tunnel.
	Tunneled bool
	// HashKey is the key for algorithms that hash one.
	HashKey string
	// Persistence is what came of the client's binding, such as "hit"; empty
	// for none.
	Persistence string

	vars     datascript.Vars
	request  bodyrule.Request // what is buffered by a service
	response bodyrule.Response
}

// A Claim is a claim of a client's token.
type Claim struct {
	// Provider is the number of the OAuth provider, counted from 0.
	Provider int
	// Name is the name of the claim, as in the token.
	Name string
	// Values are its values: one, or those of a list in its order.
	Values []string
}

// A Selection is a script's choice of a pool and perhaps a server, as reported
// to [datascript.Transaction].SelectPool.
type Selection struct {
	Pool  string           // never empty
	Addr  netip.AddrPort   // invalid if no server was chosen, or if Entry names one that is gone
	Entry datascript.Entry // the persistence entry that led to the server; zero if none did
}

// A Response is a status, a header and a body: what a server or a script
// answers, or what a client gets.
type Response struct {
	Status int         // 200 to 599
	Header http.Header // without Content-Length, unless it was given
	Body   []byte      // may be empty
}

// Closing says how a script closes the client's connection.
type Closing uint8

// The ways to close a connection, in ascending precedence.
const (
	Open Closing = iota // it is not closed
	FIN                 // in good order
	RST                 // by a reset
)

var closingNames = []string{Open: "open", FIN: "FIN", RST: "RST"}

// String returns "open", "FIN" or "RST"; "invalid" for other values.
func (c Closing) String() string { return enumtext.String(c, closingNames) }

// MarshalText returns the name. It fails for a value without a name.
func (c Closing) MarshalText() ([]byte, error) { return enumtext.Marshal(c, closingNames) }

// UnmarshalText reads a name, without regard to case, blanks, "-" and "_". The
// error for another text lists the names.
func (c *Closing) UnmarshalText(text []byte) error { return enumtext.Unmarshal(c, text, closingNames) }

// Client returns ClientAddr or what stands in for it, unmapped and without a
// zone.
func (tx *Transaction) Client() netip.AddrPort {
	addr := tx.ClientAddr
	if !addr.IsValid() {
		addr, _ = netip.ParseAddrPort(tx.Original().RemoteAddr)
	}
	if !addr.IsValid() {
		addr = defaultClient
	}
	return netip.AddrPortFrom(addr.Addr().Unmap().WithZone(""), addr.Port())
}

// Local returns LocalAddr, or 198.51.100.1:80 if that is zero.
func (tx *Transaction) Local() netip.AddrPort {
	if !tx.LocalAddr.IsValid() {
		return defaultLocal
	}
	return tx.LocalAddr
}

// Original returns In.
func (tx *Transaction) Original() *http.Request {
	if tx.In == nil {
		tx.In = &http.Request{
			Method: http.MethodGet, Host: "www.example.com", URL: &url.URL{Path: "/"},
			Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{},
		}
	}
	return tx.In
}

// Request returns Out if there is one, else In.
func (tx *Transaction) Request() *http.Request {
	if tx.Out != nil {
		return tx.Out
	}
	return tx.Original()
}

// EditRequest returns Out. The first call makes it, as a copy of In with a
// header and a URL of its own.
func (tx *Transaction) EditRequest() *http.Request {
	if tx.Out == nil {
		in := tx.Original()
		tx.Out = in.Clone(in.Context())
		if tx.Out.Header == nil {
			tx.Out.Header = http.Header{}
		}
	}
	return tx.Out
}

// Response returns Status and Header. There is a response if Status is not
// zero.
func (tx *Transaction) Response() (status int, header http.Header, ok bool) {
	if tx.Status == 0 {
		return 0, nil, false
	}
	if tx.Header == nil {
		tx.Header = http.Header{}
	}
	return tx.Status, tx.Header, true
}

// Server returns Pool and Addr.
func (tx *Transaction) Server() (pool string, addr netip.AddrPort) { return tx.Pool, tx.Addr }

// SelectPool sets Selected and Pool. Addr stays: the server is in use only once
// it was found to be up.
func (tx *Transaction) SelectPool(pool string, addr netip.AddrPort) {
	tx.SelectEntry(pool, addr, datascript.Entry{})
}

// SelectEntry sets Selected and Pool, as SelectPool does.
func (tx *Transaction) SelectEntry(pool string, addr netip.AddrPort, entry datascript.Entry) {
	tx.Selected = &Selection{Pool: pool, Addr: addr, Entry: entry}
	tx.Pool = pool
}

// Reply sets Answer, unless it is set already.
func (tx *Transaction) Reply(status int, header http.Header, body []byte) {
	if tx.Answer == nil {
		tx.Answer = &Response{Status: status, Header: header, Body: body}
	}
}

// Close sets Closed. A reset is not taken back by a later call without.
func (tx *Transaction) Close(reset bool) {
	if reset {
		tx.Closed = RST
	} else {
		tx.Closed = max(tx.Closed, FIN)
	}
}

// Log appends to Lines.
func (tx *Transaction) Log(line string) { tx.Lines = append(tx.Lines, line) }

// UserID returns User.
func (tx *Transaction) UserID() string { return tx.User }

// SetUserID sets User.
func (tx *Transaction) SetUserID(id string) { tx.User = id }

// RequestID returns ID, or "test-request" if that is empty.
func (tx *Transaction) RequestID() string { return cmp.Or(tx.ID, "test-request") }

// SetServerTimeout sets ServerTimeout.
func (tx *Transaction) SetServerTimeout(d time.Duration) { tx.ServerTimeout = d }

// BufferRequest sets RequestBuffer.
func (tx *Transaction) BufferRequest(max int) {
	tx.RequestBuffer = max
	tx.request.Ask(max)
}

// BufferRequestLonger sets RequestBuffer and LongerBody.
func (tx *Transaction) BufferRequestLonger(max int, head bool) {
	tx.RequestBuffer, tx.LongerBody = max, "refuse"
	if head {
		tx.LongerBody = "head"
	}
	tx.request.AskLonger(max, head)
}

// RequestBodyWhole returns the opposite of BufferedInPart.
func (tx *Transaction) RequestBodyWhole() bool { return !tx.BufferedInPart }

// RequestBody returns BufferedRequest.
func (tx *Transaction) RequestBody() (body []byte, ok bool) {
	return tx.BufferedRequest, tx.BufferedRequest != nil
}

// BufferResponse sets ResponseBuffer.
func (tx *Transaction) BufferResponse(max int) {
	tx.ResponseBuffer = max
	tx.response.Ask(max)
}

// ResponseBody returns BufferedResponse.
func (tx *Transaction) ResponseBody() (body []byte, ok bool) {
	return tx.BufferedResponse, tx.BufferedResponse != nil
}

// FailureStatus returns Failure, or 502 if that is zero.
func (tx *Transaction) FailureStatus() int { return cmp.Or(tx.Failure, http.StatusBadGateway) }

// OpenConns returns Conns.
func (tx *Transaction) OpenConns() (n int, ok bool) { return tx.Conns, true }

// CanTunnel returns the opposite of NoTunnel.
func (tx *Transaction) CanTunnel() bool { return !tx.NoTunnel }

// Tunnel sets Tunneled.
func (tx *Transaction) Tunnel() { tx.Tunneled = true }

// TLSFingerprint returns one of Fingerprints.
func (tx *Transaction) TLSFingerprint(kind string) (fingerprint string, ok bool) {
	fingerprint, ok = tx.Fingerprints[kind]
	return fingerprint, ok
}

// SAMLAttributes returns Attributes.
func (tx *Transaction) SAMLAttributes() (attributes string, ok bool) {
	return tx.Attributes, tx.Attributes != ""
}

// Claim returns the values of the first of Claims with that provider and name.
func (tx *Transaction) Claim(provider int, name string) (values []string, ok bool) {
	for _, c := range tx.Claims {
		if c.Provider == provider && c.Name == name {
			return c.Values, true
		}
	}
	return nil, false
}

// SetHashKey sets HashKey.
func (tx *Transaction) SetHashKey(key string) { tx.HashKey = key }

// PersistenceResult returns Persistence.
func (tx *Transaction) PersistenceResult() string { return tx.Persistence }

// Vars returns the variables of the scripts, which last as long as the
// Transaction.
func (tx *Transaction) Vars() *datascript.Vars { return &tx.vars }

// decided reports whether a script answered or closed, so that no other one
// runs for the event.
func (tx *Transaction) decided() bool { return tx.Answer != nil || tx.Closed != Open }
