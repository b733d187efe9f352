package policy

import (
	"bytes"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/limpetlb/limpet/internal/httpfield"
)

// A textValue is the value of a header or a cookie: text with variables, as
// the package documentation describes them.
type textValue []valuePart

type valuePart struct {
	text     string
	variable func(tx Transaction) string // nil: text; "" if there is no value
}

var variables = map[string]func(tx Transaction) string{
	"client_ip": func(tx Transaction) string { return addrText(tx.Client().Addr()) },
	"source_ip": func(tx Transaction) string { return addrText(tx.Source().Addr()) },
	"vs_ip":     func(tx Transaction) string { return addrText(tx.Local().Addr()) },
	"vs_port":   vsPort,
	"user_name": func(tx Transaction) string {
		user, _, _ := tx.Original().BasicAuth()
		return user
	},
	"request_id":                Transaction.RequestID,
	"ssl_protocol":              tlsVariable(func(c *tls.ConnectionState) string { return tls.VersionName(c.Version) }),
	"ssl_cipher":                tlsVariable(func(c *tls.ConnectionState) string { return tls.CipherSuiteName(c.CipherSuite) }),
	"ssl_server_name":           tlsVariable(func(c *tls.ConnectionState) string { return c.ServerName }),
	"ssl_client_fingerprint":    certVariable(fingerprint),
	"ssl_client_serial":         certVariable(func(c *x509.Certificate) string { return c.SerialNumber.Text(16) }),
	"ssl_client_issuer":         certVariable(func(c *x509.Certificate) string { return c.Issuer.String() }),
	"ssl_client_subject":        certVariable(func(c *x509.Certificate) string { return c.Subject.String() }),
	"ssl_client_version":        certVariable(func(c *x509.Certificate) string { return strconv.Itoa(c.Version) }),
	"ssl_client_sigalg":         certVariable(func(c *x509.Certificate) string { return c.SignatureAlgorithm.String() }),
	"ssl_client_notvalidbefore": certVariable(func(c *x509.Certificate) string { return c.NotBefore.UTC().Format(time.RFC3339) }),
	"ssl_client_notvalidafter":  certVariable(func(c *x509.Certificate) string { return c.NotAfter.UTC().Format(time.RFC3339) }),
	"ssl_client_raw":            certVariable(func(c *x509.Certificate) string { return strings.ReplaceAll(pemText(c), "\n", " ") }),
	"ssl_client_escaped":        certVariable(func(c *x509.Certificate) string { return url.QueryEscape(pemText(c)) }),
}

func vsPort(tx Transaction) string {
	if port := tx.Local().Port(); port != 0 {
		return strconv.Itoa(int(port))
	}
	return ""
}

func tlsVariable(get func(*tls.ConnectionState) string) func(Transaction) string {
	return func(tx Transaction) string {
		if c := tx.Original().TLS; c != nil {
			return get(c)
		}
		return ""
	}
}

// certVariable returns a variable of the client certificate.
func certVariable(get func(*x509.Certificate) string) func(Transaction) string {
	return tlsVariable(func(c *tls.ConnectionState) string {
		if len(c.PeerCertificates) == 0 {
			return ""
		}
		return get(c.PeerCertificates[0])
	})
}

func fingerprint(c *x509.Certificate) string {
	sum := sha1.Sum(c.Raw)
	return hex.EncodeToString(sum[:])
}

func pemText(c *x509.Certificate) string {
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	return string(bytes.TrimSpace(block))
}

// headerVariable is the first value of a request header.
func headerVariable(name string) func(tx Transaction) string {
	name = textproto.CanonicalMIMEHeaderKey(name)
	return func(tx Transaction) string {
		if name == "Host" {
			return tx.Original().Host
		}
		return textproto.TrimString(tx.Original().Header.Get(name))
	}
}

// parseValue reads text with variables.
func parseValue(source string) (textValue, error) {
	var v textValue
	text := func(s string) {
		if s != "" {
			v = append(v, valuePart{text: s})
		}
	}
	rest := source
	for {
		before, after, found := strings.Cut(rest, "$")
		text(before)
		if !found {
			return v, nil
		}
		name := after[:nameLen(after)]
		rest = after[len(name):]
		switch {
		case strings.HasPrefix(after, "$"):
			text("$")
			rest = after[1:]
			continue
		case strings.HasPrefix(after, "{"):
			end := strings.IndexByte(after, '}')
			if end < 0 {
				return nil, errors.New("a brace is not closed")
			}
			name, rest = after[1:end], after[end+1:]
			if header, ok := strings.CutPrefix(name, "header:"); ok {
				if !httpfield.IsToken(header) {
					return nil, fmt.Errorf("%q is not a header name", header)
				}
				v = append(v, valuePart{variable: headerVariable(header)})
				continue
			}
		case name == "":
			text("$") // as in a price
			continue
		}
		variable, ok := variables[name]
		if !ok {
			return nil, fmt.Errorf("$%s is not a variable; a dollar sign is written $$", name)
		}
		v = append(v, valuePart{variable: variable})
	}
}

// nameLen returns the length of the name of a variable at the front of s.
func nameLen(s string) int {
	n := 0
	for n < len(s) && (s[n] == '_' || 'a' <= s[n] && s[n] <= 'z') {
		n++
	}
	return n
}

// expand returns the value for a transaction; false if a variable has no value,
// or one that is not valid in a header.
func (v textValue) expand(tx Transaction) (string, bool) {
	var b strings.Builder
	for _, p := range v {
		text := p.text
		if p.variable != nil {
			if text = p.variable(tx); text == "" || !httpfield.IsValue(text) {
				return "", false
			}
		}
		b.WriteString(text)
	}
	return b.String(), true
}
