package http1

import (
	"errors"
	"net/textproto"
	"strings"
)

// WithoutQuote returns err without the quotation of a malformed message, or of
// its trailer, that the standard library adds: the message may contain a
// secret. The result does not match what err matches if something was removed.
func WithoutQuote(err error) error {
	var malformed textproto.ProtocolError
	if text := err.Error(); errors.As(err, &malformed) || strings.Contains(text, "malformed HTTP") {
		if what, _, quoted := strings.Cut(text, `"`); quoted {
			return errors.New(strings.TrimRight(what, ": "))
		}
	}
	return err
}
