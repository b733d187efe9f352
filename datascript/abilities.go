package datascript

import (
	"net/netip"
	"time"
)

// The interfaces in this file are abilities that a [Transaction] may have. The
// engine finds them by type assertion. A script that needs a missing ability
// fails with an error that says so, unless the interface says otherwise. As
// with all decisions of scripts, the engine calls the methods that change
// something only when the script has ended without an error.

// An EntrySelector learns which persistence entry led to the server that a
// script selects. If another server is taken instead, it must rewrite that
// entry. Without this ability, the engine calls SelectPool.
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
	// Value is the stored value. If several servers share the address, it may
	// be an address with a port and a zero byte.
	Value string
}

// An EncryptionReporter serves avi.http.protocol, avi.http.scheme and
// avi.http.secure: the client may have spoken TLS to a proxy in front. Without
// this ability, they use Original().TLS.
type EncryptionReporter interface {
	// Encrypted reports whether the client spoke TLS.
	Encrypted() bool
}

// A ConnCounter serves avi.vs.get_open_conns.
type ConnCounter interface {
	// OpenConns returns how many connections of clients are open where the one
	// of this request was accepted. ok is false if nobody counts them; the
	// script fails then.
	OpenConns() (n int, ok bool)
}

// A Fingerprinter serves avi.ssl.get_tls_fingerprint. Without this ability
// there are no fingerprints, which is not an error.
type Fingerprinter interface {
	// TLSFingerprint returns the fingerprint of the client's TLS
	// implementation, of the kind that the script asks for. ok is false if
	// there is none.
	TLSFingerprint(kind string) (fingerprint string, ok bool)
}

// A CertificateVerifier verifies client certificates that the handshake has not
// verified: with tls.RequestClientCert, the handshake admits every client. It
// serves avi.ssl.check_client_cert_validity, avi.ssl.check_err_in_client_cert
// and avi.http.get_userid. Without this ability, such certificates are not
// verified.
type CertificateVerifier interface {
	// VerifyCertificate returns nil if the client's certificate is good, else
	// the reason, such as an error of crypto/x509. It is called only if the
	// client has presented a certificate.
	VerifyCertificate() error
}

// An Identifier names the user and the request, for avi.http.get_userid,
// avi.http.set_userid and avi.http.get_request_id. Without this ability,
// get_userid returns the user that the request names.
type Identifier interface {
	// UserID returns the last name from SetUserID, else the name that the host
	// knows; empty if there is none.
	UserID() string
	// SetUserID sets the name, for later events and for the log. An empty name
	// removes the one from an earlier call.
	SetUserID(id string)
	// RequestID returns the name of the transaction, which is unique and the
	// same in all events.
	RequestID() string
}

// A ForwardController controls how the request is forwarded, for
// avi.http.set_server_timeout, avi.pool.chash and avi.http.disable.
type ForwardController interface {
	// SetServerTimeout bounds the wait for the server's response to this
	// request. The duration is positive.
	SetServerTimeout(d time.Duration)
	// SetHashKey sets the key for algorithms that hash a string from a script.
	// Other algorithms ignore it.
	SetHashKey(key string)
	// CanTunnel reports whether Tunnel is possible. In HTTP/2 it is not.
	CanTunnel() bool
	// Tunnel joins the connections of client and server after the response, in
	// both directions and until their end.
	Tunnel()
}

// A BodyBufferer keeps bodies in memory for scripts, for avi.http.get_req_body,
// avi.http.set_request_body_buffer_size, avi.http.get_response_body and
// avi.http.set_response_body_buffer_size. Without this ability there are no
// bodies.
type BodyBufferer interface {
	// BufferRequest asks the host to read the request's body into memory before
	// HTTP_REQ_DATA, up to max bytes; 0 asks for no buffering. The host decides
	// about a longer body.
	BufferRequest(max int)
	// BufferRequestLonger is BufferRequest, but head decides about a longer
	// body: if it is set, scripts see the beginning and the server gets all of
	// it, else the request is refused.
	BufferRequestLonger(max int, head bool)
	// RequestBody returns the bytes that were read. ok is false if nothing was
	// buffered. The engine does not change them; scripts get copies.
	RequestBody() (body []byte, ok bool)
	// RequestBodyWhole reports whether RequestBody is the whole body.
	RequestBodyWhole() bool
	// BufferResponse asks the host to read the response's body into memory
	// before HTTP_RESP_DATA, up to max bytes, which is positive.
	BufferResponse(max int)
	// ResponseBody returns the bytes that were read, as the server encoded
	// them. ok is false if nothing was buffered. The engine does not change
	// them; scripts get copies.
	ResponseBody() (body []byte, ok bool)
}

// A SessionReader reads the client's sessions, for
// avi.http.saml_session_decrypt and avi.http.oauth_get_claim. Without this
// ability there are none, which is not an error.
type SessionReader interface {
	// SAMLAttributes returns the attributes of the client's SAML session as one
	// text, each as "NAME=value". ok is false without a session.
	SAMLAttributes() (attributes string, ok bool)
	// Claim returns the values of a claim of the client's token from a
	// provider. Providers are numbered from 0; a script may ask for any number.
	// ok is false if there is no such claim. The engine does not change the
	// slice.
	Claim(provider int, name string) (values []string, ok bool)
}

// An OutcomeReporter reports the outcome of the request so far, for
// avi.http.internal_status and avi.pool.persistence.
type OutcomeReporter interface {
	// FailureStatus returns why there is no response: 502 if the server could
	// not be reached or gave no valid response, 503 if there was no server, 504
	// if it took too long.
	FailureStatus() int
	// PersistenceResult returns the outcome of the client's binding to a
	// server: "hit", "miss", "expired", "joined", "nokey", "invalid",
	// "ambiguous", or "repin:" and why another server was taken. It is empty if
	// nothing has asked for a binding.
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
