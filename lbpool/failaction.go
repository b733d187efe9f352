package lbpool

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/limpetlb/limpet/internal/enumtext"
	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/internal/httpfield"
)

// FailKind says what to do with a request for which no server is available.
type FailKind uint8

const (
	// FailRespond answers with FailAction.Status and Body.
	FailRespond FailKind = iota
	// FailClose closes the client's connection.
	FailClose
	// FailRedirect redirects the client to FailAction.Redirect.
	FailRedirect
	// FailBackup sends the request to FailAction.Backup.
	FailBackup
)

var failKinds = []string{"respond", "close", "redirect", "backup"}

// String returns the name: "respond", "close", "redirect" or "backup";
// "invalid" for other values.
func (k FailKind) String() string { return enumtext.String(k, failKinds) }

// MarshalText returns the name. It fails for a value without a name.
func (k FailKind) MarshalText() ([]byte, error) { return enumtext.Marshal(k, failKinds) }

// UnmarshalText reads a name, without regard to case, blanks, "-" and "_". The
// error for another text lists the names.
func (k *FailKind) UnmarshalText(text []byte) error { return enumtext.Unmarshal(k, text, failKinds) }

// FailAction says what to do with a request for which a pool has no server, or
// a group no pool. The zero value responds with status 503.
type FailAction struct {
	// Kind says which of the fields below are used.
	Kind FailKind
	// Status is 200 or 503. 0 means 503.
	Status int
	// ContentType is the type of Body. Empty means "text/html; charset=utf-8"
	// if there is a body.
	ContentType string
	// Body is sent with Status. Do not change it once it is in use.
	Body []byte
	// Redirect is the target of FailRedirect.
	Redirect Redirect
	// Backup is the pool that takes over with FailBackup. A Transport uses it
	// by itself, then the backup of the backup, up to three of them. The server
	// that the request's Hint names is looked for there too.
	Backup *Pool
}

// Redirect is the target of a redirect. An empty Path or Query keeps that of
// the request.
type Redirect struct {
	Scheme string // "http" or "https"; empty means "https"
	Host   string // host, with a port if need be. Required
	Path   string // begins with "/"; empty keeps the request's path
	Query  string // without "?"; empty keeps the request's query
	Status int    // 301, 302, 303, 307 or 308; 0 means 302
}

// Location returns the Location header that redirects a request with the URL u.
func (r Redirect) Location(u *url.URL) string {
	to := url.URL{Scheme: r.Scheme, Host: r.Host, Path: u.Path, RawPath: u.RawPath, RawQuery: u.RawQuery}
	if r.Path != "" {
		to.Path, to.RawPath = r.Path, ""
	}
	if !strings.HasPrefix(to.Path, "/") {
		to.Path, to.RawPath = "/"+to.Path, "" // OPTIONS * for one
	}
	if r.Query != "" {
		to.RawQuery = r.Query
	}
	return to.String()
}

func (a FailAction) withDefaults() FailAction {
	if a.Status == 0 {
		a.Status = http.StatusServiceUnavailable
	}
	if a.ContentType == "" && len(a.Body) > 0 {
		a.ContentType = "text/html; charset=utf-8"
	}
	if a.Redirect.Scheme == "" {
		a.Redirect.Scheme = "https"
	}
	if a.Redirect.Status == 0 {
		a.Redirect.Status = http.StatusFound
	}
	return a
}

// validate expects the defaults to be filled in.
func (a FailAction) validate(path string, faults *fielderr.List) {
	if a.Status != http.StatusOK && a.Status != http.StatusServiceUnavailable {
		faults.Addf(path+".status", a.Status, "neither 200 nor 503")
	}
	switch a.Redirect.Status {
	case 301, 302, 303, 307, 308:
	default:
		faults.Addf(path+".redirect.status", a.Redirect.Status, "not one of 301, 302, 303, 307, 308")
	}
	switch a.Kind {
	case FailRespond, FailClose:
	case FailRedirect:
		r := a.Redirect
		if r.Scheme != "http" && r.Scheme != "https" {
			faults.Addf(path+".redirect.scheme", r.Scheme, "neither http nor https")
		}
		if !httpfield.IsAuthority(r.Host) {
			faults.Addf(path+".redirect.host", r.Host, "not a host")
		}
		if r.Path != "" && !strings.HasPrefix(r.Path, "/") {
			faults.Addf(path+".redirect.path", r.Path, "does not begin with /")
		}
		if u, err := url.Parse("?" + r.Query); err != nil || u.Fragment != "" || strings.ContainsAny(r.Query, " \"<>") {
			faults.Addf(path+".redirect.query", r.Query, "not a query")
		}
	case FailBackup:
		if a.Backup == nil {
			faults.Addf(path+".backup", nil, "missing")
		}
	default:
		faults.Constant(path+".kind", a.Kind)
	}
}
