package admin

import (
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"hash/maphash"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"
)

// bodyTimeout is how long the body of a request may take.
const bodyTimeout = 10 * time.Second

// secure sets the headers of every answer.
func secure(h http.Header) {
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "+
		"form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'")
}

// ServeHTTP answers a request of an operator.
func (a *Admin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	secure(w.Header())
	if r.ContentLength != 0 { // or the rest of a body may take for ever
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(a.bodyTime))
	}
	c := &call{Admin: a, w: w, r: r, id: randomID()}
	w.Header().Set("X-Request-Id", c.id)
	c.caller.remote = r.RemoteAddr
	c.serve()
}

// serve finds the route, judges the caller, and calls the handler.
func (c *call) serve() {
	rt, err := c.find()
	c.route = rt
	if err == nil {
		err = c.admit()
	}
	if err == nil {
		err = c.resolve()
	}
	var answer any
	if err == nil {
		answer, err = rt.handle(c)
	}
	c.finish(answer, err)
}

// find returns the route of a request.
func (c *call) find() (*route, error) {
	if escaped := c.r.URL.EscapedPath(); escaped == "" || escaped[0] != '/' || clean(escaped) != escaped {
		return nil, fail(http.StatusNotFound, codeNotFound, "no such path")
	}
	var f finder
	if c.mux.ServeHTTP(&f, c.r); f.found != nil {
		return f.found, nil
	}
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodPost, http.MethodPatch, http.MethodDelete} {
		probe := *c.r
		probe.Method = method
		if _, pattern := c.mux.Handler(&probe); pattern != "" {
			allowed = append(allowed, method)
		}
	}
	if len(allowed) == 0 {
		return nil, fail(http.StatusNotFound, codeNotFound, "no such path")
	}
	c.w.Header().Set("Allow", strings.Join(allowed, ", "))
	return nil, fail(http.StatusMethodNotAllowed, codeMethod, "%s is not allowed here; allowed: %s", quote(c.r.Method), strings.Join(allowed, ", "))
}

// clean is path.Clean that keeps a slash at the end.
func clean(p string) string {
	c := path.Clean(p)
	if strings.HasSuffix(p, "/") && c != "/" {
		c += "/"
	}
	return c
}

// A finder learns which route the mux chooses. Unlike [http.ServeMux.Handler],
// serving fills in the wildcards of the path.
type finder struct{ found *route }

func (*finder) Header() http.Header         { return http.Header{} }
func (*finder) Write(p []byte) (int, error) { return len(p), nil }
func (*finder) WriteHeader(int)             {}

// admit judges the caller. A request without a route is not judged.
func (c *call) admit() error {
	if c.route.role == 0 {
		return nil
	}
	if err := c.identify(); err != nil {
		return err
	}
	if err := c.checkOrigin(); err != nil {
		return err
	}
	switch {
	case c.route.change && c.config.ReadOnly:
		return fail(http.StatusForbidden, codeReadOnly, "changes are switched off")
	case c.caller.role < c.route.role:
		return fail(http.StatusForbidden, codeRole, "needs the role %s; %s has %s", c.route.role, cmp.Or(c.caller.who, "the caller"), c.caller.role)
	}
	return cmp.Or(c.checkParameters(), c.checkType())
}

// identify finds out who sends the request.
func (c *call) identify() error {
	if given, ok := c.r.Context().Value(roleKey{}).(caller); ok {
		c.caller.role, c.caller.who = given.role, given.who
		return nil
	}
	if peer, ok := c.r.Context().Value(peerKey{}).(peer); ok {
		c.caller.role, c.caller.who, c.caller.remote = c.config.SocketRole, peer.String(), "unix"
		return nil
	}
	if !c.knowsHost(c.r.Host) {
		return fail(http.StatusMisdirectedRequest, codeHost, "the host %s is none of this server", quote(c.r.Host))
	}
	if authorization := c.r.Header.Values("Authorization"); len(authorization) > 0 {
		return c.checkToken(authorization)
	}
	if t := c.r.TLS; t != nil && len(t.VerifiedChains) > 0 && c.config.ClientCertificates != 0 {
		subject := t.VerifiedChains[0][0].Subject
		c.caller.role, c.caller.who = c.config.ClientCertificates, "certificate "+cmp.Or(subject.CommonName, subject.String())
		return nil
	}
	return c.unauthorized("a token or a client certificate is needed")
}

func (c *call) unauthorized(detail string) error {
	c.w.Header().Set("WWW-Authenticate", `Bearer realm="limpet"`)
	return fail(http.StatusUnauthorized, codeUnauthorized, "%s", detail)
}

// knowsHost reports whether a value of the header Host is an address or a
// configured name.
func (a *Admin) knowsHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return a.hosts[strings.TrimSuffix(host, ".")]
}

// checkToken compares the token of a request. The address of whoever has sent
// too many wrong ones is refused whatever it sends, or it could go on guessing.
func (c *call) checkToken(authorization []string) error {
	source := c.source()
	if !c.guesses.Take(source, 0, c.now()) {
		return retry(fail(http.StatusTooManyRequests, codeTooMany, "too many wrong tokens from this address"), time.Minute/guessesPerMin)
	}
	scheme, secret, _ := strings.Cut(authorization[0], " ")
	sum := sha256.Sum256([]byte(strings.TrimSpace(secret)))
	found := -1
	for i := range c.config.Tokens {
		if subtle.ConstantTimeCompare(sum[:], c.config.Tokens[i].SHA256[:]) == 1 {
			found = i
		}
	}
	if found < 0 || len(authorization) != 1 || !strings.EqualFold(scheme, "Bearer") {
		c.guesses.Take(source, 1, c.now())
		return c.unauthorized("wrong token")
	}
	t := &c.config.Tokens[found]
	c.caller.role, c.caller.who = t.Role, "token "+t.Name
	return nil
}

// source returns a hash of the address that a request comes from, of IPv6 that
// of its network.
func (c *call) source() uint64 {
	text := c.r.RemoteAddr
	if addr, err := netip.ParseAddrPort(text); err == nil {
		ip := addr.Addr().Unmap()
		bits := 32
		if ip.Is6() {
			bits = 64
		}
		text = netip.PrefixFrom(ip, bits).Masked().String()
	}
	return maphash.String(c.seed, text)
}

// checkOrigin refuses what the pages of other sites make browsers send: all
// changes, and readings that do more than read.
func (c *call) checkOrigin() error {
	err := c.origin.Check(c.r)
	if site := c.r.Header.Get("Sec-Fetch-Site"); err == nil && c.route.role > Read && site != "" && site != "none" && site != "same-origin" {
		err = fmt.Errorf("sent by a page of another site")
	}
	if err != nil {
		return fail(http.StatusForbidden, codeOrigin, "%v", err)
	}
	return nil
}

// checkParameters refuses parameters that the route does not have.
func (c *call) checkParameters() error {
	if c.route.passes {
		return nil
	}
	values, err := parseQuery(c.r.URL.RawQuery)
	if err != nil {
		return badRequest("query", "%v", err)
	}
	for name, list := range values {
		switch {
		case !slices.Contains(c.route.query, name):
			return badRequest(name, "no such parameter; allowed: %s", cmp.Or(strings.Join(c.route.query, ", "), "none"))
		case len(list) > 1:
			return badRequest(name, "given more than once")
		}
	}
	c.query = values
	return nil
}

// checkType refuses bodies that forms can have, and other bodies that are not
// JSON.
func (c *call) checkType() error {
	switch c.r.Method {
	case http.MethodGet, http.MethodHead:
		return nil
	}
	kind, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		return fail(http.StatusUnsupportedMediaType, codeMediaType, "the header Content-Type must be application/json")
	}
	return nil
}
