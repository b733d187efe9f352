package datascript

import (
	"net/netip"
	"time"
)

// The interfaces in this file are abilities that a [Transaction] may have.
// The engine finds them by type assertion. A script that needs one that its
// transaction lacks fails with an error that says so, unless the interface
// tells otherwise. Like all decisions of scripts, what they decide reaches
// the transaction only when the script has ended without an error.

// An EntrySelector is told which persistence entry led to the server that a
// script selects: should another server be taken in its place, that entry is to
// be rewritten. Without it, SelectPool is called.
type EntrySelector interface {
	// SelectEntry chooses the pool, and the server that entry names. addr is
	// invalid if that server is not in the pool any more; its port is 0 if
	// several servers share the address.
	SelectEntry(pool string, addr netip.AddrPort, entry Entry)
}

// An Entry is an entry of a persistence table.
type Entry struct {
	Table string // empty: the default table
	Key   string // never empty
	// Value is as stored: it may be an address with a port and a zero byte,
	// where several servers share the address.
	Value string
}

// An EncryptionReporter is behind avi.http.protocol, avi.http.scheme and
// avi.http.secure: the client may have spoken TLS to a proxy in front. Without
// it, Request.TLS tells.
type EncryptionReporter interface {
	// Encrypted reports whether the client spoke TLS.
	Encrypted() bool
}

// A Fingerprinter is behind avi.ssl.get_tls_fingerprint. Without it there
// are no fingerprints, which is no error.
type Fingerprinter interface {
	// TLSFingerprint is the fingerprint of the client's TLS implementation,
	// of the kind that the script asks for. ok is false if there is none.
	TLSFingerprint(kind string) (fingerprint string, ok bool)
}

// A CertificateVerifier judges client certificates that the handshake has not
// verified: with tls.RequestClientCert, which lets every client pass, it
// verifies none. It is behind avi.ssl.check_client_cert_validity,
// avi.ssl.check_err_in_client_cert and avi.http.get_userid. Without it, such
// certificates are not verified.
type CertificateVerifier interface {
	// VerifyCertificate returns nil if the client's certificate is good, else
	// why it is not, such as an error of crypto/x509. It is only called if
	// the client has presented one.
	VerifyCertificate() error
}

// An Identifier names the user and the request, behind avi.http.get_userid,
// avi.http.set_userid and avi.http.get_request_id. Without it, get_userid knows
// the user that the request names.
type Identifier interface {
	// UserID is the name that SetUserID was given last or that the host
	// knows; empty if there is none.
	UserID() string
	// SetUserID sets the name, for later events and for the log. An empty
	// one takes back what an earlier call has set.
	SetUserID(id string)
	// RequestID names the transaction: unique, and the same in all events.
	RequestID() string
}

// A ForwardController decides how the request is forwarded, behind
// avi.http.set_server_timeout, avi.pool.chash and avi.http.disable.
type ForwardController interface {
	// SetServerTimeout bounds the wait for the server's response to this
	// request. The duration is positive.
	SetServerTimeout(d time.Duration)
	// SetHashKey sets the key for algorithms that hash a string of the
	// script's. Other algorithms ignore it.
	SetHashKey(key string)
	// CanTunnel reports whether Tunnel is possible; it is not in HTTP/2.
	CanTunnel() bool
	// Tunnel lets the connections of client and server become one, in both
	// directions and until their end, once the response has been sent.
	Tunnel()
}

// A BodyBufferer keeps bodies in memory for scripts, behind
// avi.http.get_req_body, avi.http.set_request_body_buffer_size,
// avi.http.get_response_body and avi.http.set_response_body_buffer_size. Without
// it there are no bodies.
type BodyBufferer interface {
	// BufferRequest asks for the body of the request to be read into memory
	// before HTTP_REQ_DATA, up to max bytes; 0 asks for no buffering. The host
	// decides what happens to a longer body.
	BufferRequest(max int)
	// BufferRequestLonger is BufferRequest with a choice of what happens to a
	// longer body: if head is set, scripts see its beginning and the server
	// gets all of it, else the request is refused.
	BufferRequestLonger(max int, head bool)
	// RequestBody is what has been read. ok is false if nothing was
	// buffered. Nobody changes it; scripts get copies.
	RequestBody() (body []byte, ok bool)
	// RequestBodyWhole reports whether RequestBody is the whole body.
	RequestBodyWhole() bool
	// BufferResponse asks for the body of the response to be read into memory
	// before HTTP_RESP_DATA, up to max bytes, which is positive.
	BufferResponse(max int)
	// ResponseBody is what has been read, as the server encoded it. ok is
	// false if nothing was buffered. Nobody changes it; scripts get copies.
	ResponseBody() (body []byte, ok bool)
}

// A SessionReader knows the client's sessions, behind
// avi.http.saml_session_decrypt and avi.http.oauth_get_claim. Without it there
// are none, which is no error.
type SessionReader interface {
	// SAMLAttributes are the attributes of the client's SAML session as one
	// text, in which each is "NAME=value". ok is false without a session.
	SAMLAttributes() (attributes string, ok bool)
	// Claim returns the values of a claim of the client's token, of the
	// provider with this number, counted from 0; any number may be asked for.
	// ok is false if there is none. Nobody changes the slice.
	Claim(provider int, name string) (values []string, ok bool)
}

// An OutcomeReporter reports what came of the request so far, behind
// avi.http.internal_status and avi.pool.persistence.
type OutcomeReporter interface {
	// FailureStatus describes why there is no response: 502 if the server
	// could not be reached or gave no valid one, 503 if there was no server,
	// 504 if it took too long.
	FailureStatus() int
	// PersistenceResult is the outcome of the client's binding to a server:
	// "hit", "miss", "expired", "joined", "nokey", "invalid", "ambiguous", or
	// "repin:" and why another server was taken. It is empty if nobody has
	// asked for a binding.
	PersistenceResult() string
}

// ability returns the transaction as a T, or fails the script.
func ability[T any](c call) T {
	a, ok := c.tx.(T)
	if !ok {
		c.Fail("%s: not possible in this virtual service", c.Sym.Name)
	}
	return a
}

// decide stages a decision until the script has ended.
func (c call) decide(commit func()) { c.others = append(c.others, commit) }
