package lbpool

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"syscall"
)

// The reasons of a CheckError that matter to a pool. Any Checker may use them.
const (
	// CheckMaintenance means that the server asks, by its answer, not to be
	// used now. Its state becomes Maintenance after one such check.
	CheckMaintenance = "maintenance"
	// CheckNoResources means that this machine lacks something to check with,
	// such as a free file descriptor. The check is ignored.
	CheckNoResources = "no resources"
)

// The other reasons of HTTPChecker and TCPChecker.
const (
	checkConnectionRefused = "connection refused"
	checkConnectionTimeout = "connection timeout"
	checkConnectionReset   = "connection reset"
	checkUnreachable       = "unreachable"
	checkNoResponse        = "no response"
	checkStatusMismatch    = "status mismatch"
	checkPayloadMismatch   = "payload mismatch"
	checkTLS               = "tls error"
	checkCertificate       = "certificate error"
	checkOther             = "other"
)

// knownReason returns a reason of the lists above, which are closed: "other" in
// place of one that only a Checker of the program has.
func knownReason(reason string) string {
	switch reason {
	case CheckMaintenance, CheckNoResources, checkConnectionRefused, checkConnectionTimeout, checkConnectionReset, checkUnreachable,
		checkNoResponse, checkStatusMismatch, checkPayloadMismatch, checkTLS, checkCertificate:
		return reason
	}
	return checkOther
}

// CheckError is a failed health check.
type CheckError struct {
	// Reason is the kind of failure, in words. HTTPChecker and TCPChecker use
	// "connection refused", "connection timeout", "connection reset",
	// "unreachable" (no route to the server), "no response" (no complete answer
	// in time after the connection was made), "status mismatch", "payload
	// mismatch", "tls error", "certificate error", CheckMaintenance,
	// CheckNoResources and "other". Another Checker may use its own. Empty
	// means "other".
	Reason string
	// Detail is the answer, or the part of it, that failed the check. It may be
	// empty.
	Detail string
	// Err is the underlying error. It may be nil.
	Err error
}

// Error returns the reason, the detail and the underlying error, as far as they
// are set.
func (e *CheckError) Error() string {
	text := cmp.Or(e.Reason, checkOther)
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns Err.
func (e *CheckError) Unwrap() error { return e.Err }

// checkReason returns the reason that err carries, "other" if none.
func checkReason(err error) string {
	if e, ok := errors.AsType[*CheckError](err); ok {
		return cmp.Or(e.Reason, checkOther)
	}
	return checkOther
}

// networkCheckError finds the reason for an error of the network.
func networkCheckError(err error) *CheckError {
	var dial *net.OpError
	dialing := errors.As(err, &dial) && dial.Op == "dial"
	var certificate *tls.CertificateVerificationError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	reason := checkOther
	switch {
	case localFault(err):
		reason = CheckNoResources
	case errors.Is(err, syscall.ECONNREFUSED):
		reason = checkConnectionRefused
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		reason = checkUnreachable
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		reason = checkConnectionReset
	case errors.As(err, &certificate), errors.As(err, &invalid):
		reason = checkCertificate
	case errors.As(err, &record), errors.As(err, &alert):
		reason = checkTLS
	case isTimeout(err):
		reason = checkNoResponse
		if dialing {
			reason = checkConnectionTimeout
		}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		reason = checkNoResponse
	}
	return &CheckError{Reason: reason, Err: err}
}
