package datascript

import (
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"
)

// certificateFields spell the parts of a certificate, by the values of the
// constants avi.CLIENT_CERT_*. The value of each constant is its name, since
// some scripts quote them.
var certificateFields = map[string]func(*x509.Certificate) string{
	"avi.CLIENT_CERT":                 pemWithTabs,
	"avi.CLIENT_CERT_FINGERPRINT":     fingerprintOf,
	"avi.CLIENT_CERT_SUBJECT":         func(x *x509.Certificate) string { return slashName(x.RawSubject) },
	"avi.CLIENT_CERT_ISSUER":          func(x *x509.Certificate) string { return slashName(x.RawIssuer) },
	"avi.CLIENT_CERT_SERIAL":          func(x *x509.Certificate) string { return serialOf(x.SerialNumber) },
	"avi.CLIENT_CERT_NOTVALIDBEFORE":  func(x *x509.Certificate) string { return certificateTime(x.NotBefore) },
	"avi.CLIENT_CERT_NOTVALIDAFTER":   func(x *x509.Certificate) string { return certificateTime(x.NotAfter) },
	"avi.CLIENT_CERT_VERSION":         func(x *x509.Certificate) string { return strconv.Itoa(x.Version) },
	"avi.CLIENT_CERT_SIGALG":          signatureAlgorithm,
	"avi.CLIENT_CERT_ESCAPED":         func(x *x509.Certificate) string { return escapeURL(pemOf(x), unreserved) },
	"avi.CLIENT_CERT_SAN_EXTENSION":   alternativeNames,
	"avi.CLIENT_CERT_SAN_EXTENSIONS":  alternativeNames,
	"avi.CLIENT_CERT_X509_EXTENSIONS": extensionsOf,
}

func pemOf(x *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: x.Raw}))
}

// pemWithTabs returns a certificate in PEM, as a header value that continues on
// further lines.
func pemWithTabs(x *x509.Certificate) string {
	return strings.ReplaceAll(strings.TrimSuffix(pemOf(x), "\n"), "\n", "\n\t")
}

func fingerprintOf(x *x509.Certificate) string {
	sum := sha1.Sum(x.Raw)
	return hex.EncodeToString(sum[:])
}

func serialOf(n *big.Int) string {
	if n == nil || n.Sign() == 0 {
		return "00"
	}
	s := fmt.Sprintf("%X", n.Bytes())
	if n.Sign() < 0 {
		return "-" + s
	}
	return s
}

// certificateTime spells a time like OpenSSL.
func certificateTime(t time.Time) string { return t.UTC().Format("Jan _2 15:04:05 2006") + " GMT" }

// nameTypes are the short names of attribute types (RFC 4519 and OpenSSL).
var nameTypes = map[string]string{
	"2.5.4.3":                    "CN",
	"2.5.4.4":                    "SN",
	"2.5.4.5":                    "serialNumber",
	"2.5.4.6":                    "C",
	"2.5.4.7":                    "L",
	"2.5.4.8":                    "ST",
	"2.5.4.9":                    "street",
	"2.5.4.10":                   "O",
	"2.5.4.11":                   "OU",
	"2.5.4.12":                   "title",
	"2.5.4.13":                   "description",
	"2.5.4.15":                   "businessCategory",
	"2.5.4.17":                   "postalCode",
	"2.5.4.41":                   "name",
	"2.5.4.42":                   "GN",
	"2.5.4.43":                   "initials",
	"2.5.4.44":                   "generationQualifier",
	"2.5.4.45":                   "x500UniqueIdentifier",
	"2.5.4.46":                   "dnQualifier",
	"2.5.4.65":                   "pseudonym",
	"2.5.4.97":                   "organizationIdentifier",
	"0.9.2342.19200300.100.1.1":  "UID",
	"0.9.2342.19200300.100.1.25": "DC",
	"1.2.840.113549.1.9.1":       "emailAddress",
	"1.3.6.1.4.1.311.60.2.1.1":   "jurisdictionL",
	"1.3.6.1.4.1.311.60.2.1.2":   "jurisdictionST",
	"1.3.6.1.4.1.311.60.2.1.3":   "jurisdictionC",
}

// slashName spells a distinguished name as /C=../O=../CN=.., with a plus sign
// before further values of one part.
func slashName(raw []byte) string {
	var name pkix.RDNSequence
	if rest, err := asn1.Unmarshal(raw, &name); err != nil || len(rest) > 0 {
		return ""
	}
	var b strings.Builder
	for _, part := range name {
		sep := "/"
		for _, a := range part {
			key := a.Type.String()
			if short := nameTypes[key]; short != "" {
				key = short
			}
			b.WriteString(sep + key + "=" + escapeText(fmt.Sprint(a.Value), "/+"))
			sep = "+"
		}
	}
	return b.String()
}

// escapeText spells unprintable bytes, backslashes, and each byte of special as
// \xHH.
func escapeText(s, special string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' || c == '\\' || strings.IndexByte(special, c) >= 0 {
			fmt.Fprintf(&b, `\x%02X`, c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// signatureAlgorithms are OpenSSL's names.
var signatureAlgorithms = map[x509.SignatureAlgorithm]string{
	x509.MD2WithRSA:       "md2WithRSAEncryption",
	x509.MD5WithRSA:       "md5WithRSAEncryption",
	x509.SHA1WithRSA:      "sha1WithRSAEncryption",
	x509.SHA256WithRSA:    "sha256WithRSAEncryption",
	x509.SHA384WithRSA:    "sha384WithRSAEncryption",
	x509.SHA512WithRSA:    "sha512WithRSAEncryption",
	x509.SHA256WithRSAPSS: "rsassaPss",
	x509.SHA384WithRSAPSS: "rsassaPss",
	x509.SHA512WithRSAPSS: "rsassaPss",
	x509.DSAWithSHA1:      "dsaWithSHA1",
	x509.DSAWithSHA256:    "dsa_with_SHA256",
	x509.ECDSAWithSHA1:    "ecdsa-with-SHA1",
	x509.ECDSAWithSHA256:  "ecdsa-with-SHA256",
	x509.ECDSAWithSHA384:  "ecdsa-with-SHA384",
	x509.ECDSAWithSHA512:  "ecdsa-with-SHA512",
	x509.PureEd25519:      "ED25519",
}

func signatureAlgorithm(x *x509.Certificate) string {
	if name := signatureAlgorithms[x.SignatureAlgorithm]; name != "" {
		return name
	}
	return "unknown"
}

// alternativeNames spells the subject's alternative names as OpenSSL prints the
// extension; empty if there are none. It escapes characters that could make one
// name look like several.
func alternativeNames(x *x509.Certificate) string {
	var names []string
	add := func(kind, name string) {
		names = append(names, kind+":"+escapeText(name, ", "))
	}
	for _, n := range x.DNSNames {
		add("DNS", n)
	}
	for _, n := range x.EmailAddresses {
		add("email", n)
	}
	for _, n := range x.IPAddresses {
		add("IP Address", n.String())
	}
	for _, n := range x.URIs {
		add("URI", n.String())
	}
	return strings.Join(names, ", ")
}

// extensionsOf lists all extensions: the object identifier, "critical" if it
// is, and the value in hexadecimal, separated by commas.
func extensionsOf(x *x509.Certificate) string {
	list := make([]string, len(x.Extensions))
	for i, e := range x.Extensions {
		critical := ""
		if e.Critical {
			critical = " critical"
		}
		list[i] = e.Id.String() + critical + " " + hex.EncodeToString(e.Value)
	}
	return strings.Join(list, ", ")
}
