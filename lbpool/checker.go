package lbpool

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
)

// CheckReason is why a health check failed.
type CheckReason uint8

const (
	// CheckOther is everything that has no reason of its own.
	CheckOther CheckReason = iota
	// CheckConnectionRefused means that nothing listens on the port.
	CheckConnectionRefused
	// CheckConnectionTimeout means that the connection was not made in time.
	CheckConnectionTimeout
	// CheckConnectionReset means that the server reset the connection.
	CheckConnectionReset
	// CheckUnreachable means that there is no route to the server.
	CheckUnreachable
	// CheckNoResources means that this machine lacks the means to check. It does not count as a failure.
	CheckNoResources
	// CheckNoResponse means that the connection stood but no complete answer came in time.
	CheckNoResponse
	// CheckStatusMismatch means that the answer's status code is not one of those accepted.
	CheckStatusMismatch
	// CheckPayloadMismatch means that the answer does not contain what it should.
	CheckPayloadMismatch
	// CheckTLS means that the TLS handshake went wrong.
	CheckTLS
	// CheckCertificate means that the server's certificate is not trusted or not valid.
	CheckCertificate
	// CheckMaintenance means that the answer is one of those by which the server says that it is under maintenance.
	CheckMaintenance
)

var checkReasons = [...]string{
	"other", "connection refused", "connection timeout", "connection reset", "unreachable", "no resources",
	"no response", "status mismatch", "payload mismatch", "tls error", "certificate error", "maintenance",
}

// String returns the reason in words.
func (r CheckReason) String() string {
	if int(r) >= len(checkReasons) {
		return fmt.Sprintf("CheckReason(%d)", uint8(r))
	}
	return checkReasons[r]
}

// CheckError is a failed health check.
type CheckError struct {
	Reason CheckReason // what kind of failure it is
	Detail string      // what was found, or ""
	Err    error       // the error behind it, or nil
}

// Error joins the reason and what is known beyond it.
func (e *CheckError) Error() string {
	text := e.Reason.String()
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

// checkReason returns the reason that err carries, CheckOther if none.
func checkReason(err error) CheckReason {
	var e *CheckError
	if errors.As(err, &e) {
		return e.Reason
	}
	return CheckOther
}

// networkCheckError finds the reason for an error of the network.
func networkCheckError(err error) *CheckError {
	var dial *net.OpError
	dialing := errors.As(err, &dial) && dial.Op == "dial"
	var certificate *tls.CertificateVerificationError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	reason := CheckOther
	switch {
	case localFault(err):
		reason = CheckNoResources
	case errors.Is(err, syscall.ECONNREFUSED):
		reason = CheckConnectionRefused
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		reason = CheckUnreachable
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		reason = CheckConnectionReset
	case errors.As(err, &certificate), errors.As(err, &invalid):
		reason = CheckCertificate
	case errors.As(err, &record), errors.As(err, &alert):
		reason = CheckTLS
	case isTimeout(err):
		reason = CheckNoResponse
		if dialing {
			reason = CheckConnectionTimeout
		}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		reason = CheckNoResponse
	}
	return &CheckError{Reason: reason, Err: err}
}
