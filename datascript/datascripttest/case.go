package datascripttest

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/tools/txtar"

	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/bodyrule"
	"github.com/limpetlb/limpet/internal/filewatch"
)

// A testCase is a case file, parsed. doc.go describes its format.
type testCase struct {
	file    string
	scripts []*scriptSource
	service *VirtualService
	steps   []step
	answers []answer // one for each step, or one for all, or none
	want    map[string]*section

	clientCert *x509.Certificate
	sections   []*section // all, in the order of the file
}

// A scriptSource is a script to compile.
type scriptSource struct {
	name   string
	order  int // of its directory
	chunks []chunkSource
}

type chunkSource struct {
	event   datascript.Event // zero for a listing
	section *section
	// deployed says that the script is a file of its own. Its comments are
	// not about the case.
	deployed bool
}

// A step is a request, and what happens before it.
type step struct {
	request    *http.Request
	connection connection
	after      time.Duration
	servers    []serverChange
}

type serverChange struct {
	server *Server
	down   bool
}

// An answer is a server's response; nil if it gives none, for the reason that
// failure says.
type answer struct {
	response *Response
	failure  int
}

// wantNames are the expectations that a case may state, in the order in which
// they are checked and written.
var wantNames = []string{"want/request", "want/response", "want/transaction", "want/tables", "want/metrics", "want/log", "want/error"}

// parseCase parses a case. The error joins the first fault of each section.
func parseCase(file string, data []byte) (*testCase, error) {
	c := &testCase{file: file, service: &VirtualService{}, want: map[string]*section{}}
	c.sections = splitCase(file, data)
	byName := map[string]*section{}
	var faults []error
	for _, s := range c.sections {
		if byName[s.name] != nil {
			faults = append(faults, s.errorf(-1, "a second section of that name"))
			continue
		}
		byName[s.name] = s
		switch {
		case slices.Contains(wantNames, s.name):
			c.want[s.name] = s
		case strings.HasPrefix(s.name, deployedPrefix):
			faults = append(faults, c.addDeployed(s))
		case strings.HasSuffix(s.name, ".lua"):
			faults = append(faults, c.addScript(s))
		case sectionParsers[s.name] == nil:
			faults = append(faults, s.errorf(-1, "unknown section"))
		}
	}
	slices.SortStableFunc(c.scripts, func(a, b *scriptSource) int { return cmp.Compare(a.order, b.order) })
	for _, name := range sectionOrder {
		if s := byName[name]; s != nil {
			faults = append(faults, sectionParsers[name](c, s))
		}
	}
	if len(c.scripts) == 0 {
		faults = append(faults, fmt.Errorf("%s: no script", file))
	}
	if byName["request"] == nil {
		faults = append(faults, fmt.Errorf("%s: no section request", file))
	}
	return c, errors.Join(faults...)
}

// sectionOrder is the order in which sections are parsed: steps name pools, and
// answers are counted against steps.
var sectionOrder = []string{"virtualservice", "pools", "tables", "ipgroups", "stringgroups", "client-cert", "request", "response"}

var sectionParsers = map[string]func(*testCase, *section) error{
	"virtualservice": (*testCase).parseVirtualService,
	"pools":          (*testCase).parsePools,
	"tables":         (*testCase).parseTables,
	"ipgroups":       (*testCase).parseIPGroups,
	"stringgroups":   (*testCase).parseStringGroups,
	"client-cert":    (*testCase).parseClientCert,
	"request":        (*testCase).parseRequests,
	"response":       (*testCase).parseResponses,
}

// splitCase splits a case into its sections. Within a listing, a line such as
// "-- HTTP Request Event --" is one of the listing, although a txtar archive
// takes it for the name of a file.
func splitCase(file string, data []byte) []*section {
	archive := txtar.Parse(data)
	line := 1 + strings.Count(string(archive.Comment), "\n")
	var sections []*section
	for _, f := range archive.Files {
		text := string(f.Data)
		marker := "-- " + f.Name + " --\n"
		_, heading := datascript.ParseHeading(marker)
		_, err := datascript.ParseEvent(strings.TrimSuffix(f.Name, " Event"))
		heading = heading || errors.As(err, new(*datascript.UnsupportedEventError)) // which compiling it says
		if n := len(sections); n > 0 && heading && isListing(sections[n-1].name) {
			sections[n-1].text += marker + text
		} else {
			sections = append(sections, &section{file: file, name: f.Name, line: line + 1, text: text})
		}
		line += 1 + strings.Count(text, "\n")
	}
	return sections
}

func isListing(name string) bool {
	return name == "listing.lua" || strings.HasSuffix(name, "/listing.lua")
}

// addScript takes a section such as "http_req.lua", or "2-Stop
// Bots/http_req.lua".
func (c *testCase) addScript(s *section) error {
	name, order := c.file, 0
	if i := strings.LastIndexAny(name, `/\`); i >= 0 {
		name = name[i+1:]
	}
	name = strings.TrimSuffix(name, ".txtar")
	base := s.name
	if dir, file, ok := strings.Cut(s.name, "/"); ok {
		number, rest, ok := strings.Cut(dir, "-")
		n, err := strconv.Atoi(number)
		if !ok || err != nil || n <= 0 || rest == "" {
			return s.errorf(-1, "the directory of a script must be a number, a hyphen and the script's name")
		}
		name, order, base = rest, n, file
	}
	ch := chunkSource{section: s}
	if base != "listing.lua" {
		ev, err := datascript.ParseEvent(strings.TrimSuffix(base, ".lua"))
		if unsupported := (*datascript.UnsupportedEventError)(nil); errors.As(err, &unsupported) {
			return s.errorf(-1, "%v", err)
		} else if err != nil {
			return s.errorf(-1, "%q is neither listing.lua nor an event with .lua behind it", base)
		}
		ch.event = ev
	}
	for _, old := range c.scripts {
		switch {
		case old.chunks[0].deployed:
			return s.errorf(-1, "some scripts are in files, others in the case")
		case (old.order == 0) != (order == 0):
			return s.errorf(-1, "some scripts have a directory, others do not")
		case old.name == name && old.order != order:
			return s.errorf(-1, "a second script %q", name)
		case old.order == order && old.name != name:
			return s.errorf(-1, "scripts %q and %q have the same number", old.name, name)
		case old.order == order && (ch.event == 0 || old.chunks[0].event == 0):
			return s.errorf(-1, "a listing is the whole script")
		case old.order == order:
			old.chunks = append(old.chunks, ch)
			return nil
		}
	}
	c.scripts = append(c.scripts, &scriptSource{name: name, order: order, chunks: []chunkSource{ch}})
	return nil
}

// deployedPrefix begins the name of a section that stands for a file.
const deployedPrefix = "script:"

// maxScriptFile is more than all events of a script may have together.
const maxScriptFile = 1 << 20

// addDeployed takes a section such as "script: ../stick.lua", or "script:
// ../stick.lua HTTP_REQ", which has no content: the script is in that file.
func (c *testCase) addDeployed(s *section) error {
	if strings.TrimSpace(s.text) != "" {
		return s.errorf(-1, "the script is in the file, so this section has no content")
	}
	path := strings.TrimSpace(strings.TrimPrefix(s.name, deployedPrefix))
	ch := chunkSource{deployed: true}
	if i := strings.LastIndexByte(path, ' '); i > 0 && !strings.HasSuffix(path, ".lua") {
		var err error
		if ch.event, err = datascript.ParseEvent(path[i+1:]); err != nil {
			return s.errorf(-1, "%v", err)
		}
		path = strings.TrimSpace(path[:i])
	}
	if path == "" {
		return s.errorf(-1, "want: script: FILE [EVENT]")
	}
	name := strings.TrimSuffix(filepath.Base(filepath.FromSlash(path)), ".lua")
	if ch.event == 0 {
		ch.event, _ = datascript.ParseEvent(name) // a listing, if there is no such event
	}
	file := filepath.Join(filepath.Dir(c.file), filepath.FromSlash(path))
	text, err := readScript(file)
	if err != nil {
		return s.errorf(-1, "%v", err)
	}
	for _, old := range c.scripts {
		switch {
		case !old.chunks[0].deployed:
			return s.errorf(-1, "some scripts are in files, others in the case")
		case old.name == name:
			return s.errorf(-1, "a second script %q", name)
		}
	}
	ch.section = &section{file: file, name: s.name, line: 1, text: text}
	c.scripts = append(c.scripts, &scriptSource{name: name, order: len(c.scripts) + 1, chunks: []chunkSource{ch}})
	return nil
}

// readScript reads the file of a script.
func readScript(file string) (string, error) {
	data, err := filewatch.ReadFile(file, maxScriptFile)
	if errors.Is(err, filewatch.ErrTooLarge) {
		err = fmt.Errorf("%s: longer than %d bytes", file, maxScriptFile)
	}
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		err = &fs.PathError{Op: "open", Path: e.Path, Err: e.Err}
	}
	return strings.ReplaceAll(string(data), "\r\n", "\n"), err
}

func (c *testCase) parseVirtualService(s *section) error {
	return s.statements(func(words []string) (err error) {
		switch {
		case words[0] == "name" && len(words) == 2:
			c.service.Name = words[1]
		case words[0] == "local" && len(words) == 2:
			c.service.Local, err = netip.ParseAddrPort(words[1])
		case words[0] == "strict-select" && len(words) == 1:
			c.service.StrictSelect = true
		case words[0] == "request-body" && (len(words) == 2 || len(words) == 3 && (words[2] == "head" || words[2] == "refuse")):
			c.service.RequestBody.Bytes, err = bodyrule.ParseBytes(words[1])
			c.service.RequestBody.Head = len(words) == 3 && words[2] == "head"
		case words[0] == "response-body" && len(words) == 2:
			c.service.ResponseBody.Bytes, err = bodyrule.ParseBytes(words[1])
		case words[0] == "open-conns" && len(words) == 2:
			c.service.OpenConns, err = strconv.Atoi(words[1])
		case words[0] == "instances" && len(words) == 2:
			c.service.Instances, err = strconv.Atoi(words[1])
		case words[0] == "address" && len(words) == 4:
			fact := AddressFact{Attribute: words[2], Value: words[3]}
			fact.Network, err = netip.ParsePrefix(words[1])
			c.service.AddressFacts = append(c.service.AddressFacts, fact)
		case words[0] == "token" && len(words) == 4:
			c.service.Tokens = append(c.service.Tokens, Token{Set: words[1], Token: words[2], Claims: words[3]})
		case words[0] == "refused-token" && len(words) == 4:
			c.service.Tokens = append(c.service.Tokens, Token{Set: words[1], Token: words[2], Reason: words[3]})
		case words[0] == "rate-limiter" && (len(words) == 4 || len(words) == 5):
			if c.service.RateLimiters == nil {
				c.service.RateLimiters = map[string]*datascript.RateLimiter{}
			}
			c.service.RateLimiters[words[1]], err = rateLimiter(words[2:])
		case words[0] == "rate-profile" && (len(words) == 4 || len(words) == 5):
			c.service.RateProfile, err = rateProfile(words[1:])
		default:
			return errors.New("want: name NAME, local ADDRESS:PORT, strict-select, request-body BYTES [head|refuse], response-body BYTES, open-conns NUMBER, instances NUMBER, " +
				"address PREFIX ATTRIBUTE VALUE, token SET TOKEN CLAIMS, refused-token SET TOKEN REASON, rate-limiter NAME COUNT PERIOD [BURST], or rate-profile COUNT PERIOD ACTION [ARGUMENT]")
		}
		return err
	})
}

// rateLimiter reads COUNT PERIOD [BURST].
func rateLimiter(words []string) (*datascript.RateLimiter, error) {
	var limit datascript.RateLimit
	var errs [3]error
	limit.Count, errs[0] = strconv.Atoi(words[0])
	limit.Period, errs[1] = time.ParseDuration(words[1])
	if len(words) > 2 {
		limit.Burst, errs[2] = strconv.Atoi(words[2])
	}
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	l, err := datascript.NewRateLimiter(limit)
	if err != nil {
		return nil, fmt.Errorf("rate limit: %w", err)
	}
	return l, nil
}

// rateProfile reads COUNT PERIOD ACTION [ARGUMENT]; the argument is the body of
// a reply, or where a redirect leads.
func rateProfile(words []string) (p *datascript.RateProfile, err error) {
	p = &datascript.RateProfile{}
	if p.Limiter, err = rateLimiter(words[:2]); err != nil {
		return nil, err
	}
	for p.Action.String() != words[2] {
		if p.Action++; p.Action > datascript.RateRedirect {
			return nil, fmt.Errorf("%q is not an action, such as %v", words[2], datascript.RateClose)
		}
	}
	if len(words) > 3 && p.Action == datascript.RateRedirect {
		p.Location = words[3]
	} else if len(words) > 3 {
		p.Body = words[3]
	}
	return p, nil
}

func (c *testCase) parsePools(s *section) error {
	return s.statements(func(words []string) error {
		switch {
		case words[0] == "pool" && (len(words) == 2 || len(words) == 3):
			p := Pool{Name: words[1]}
			if _, _, err := c.service.Pools.Servers(p.Name); err == nil || p.Name == "" {
				return fmt.Errorf("pool %q: the name is empty or there already", p.Name)
			}
			if len(words) == 3 {
				a := slices.Index(algorithmNames, words[2])
				if a < 0 {
					return fmt.Errorf("algorithm %q is none of %v", words[2], algorithmNames)
				}
				p.Algorithm = Algorithm(a)
			}
			c.service.Pools = append(c.service.Pools, p)
		case words[0] == "server" && len(words) >= 2 && len(words) <= 4:
			if len(c.service.Pools) == 0 {
				return errors.New("a server before the first pool")
			}
			addr, err := netip.ParseAddrPort(words[1])
			if err != nil || addr.Port() == 0 {
				return fmt.Errorf("%q is not an address and a port", words[1])
			}
			server, more := Server{Addr: addr}, words[2:]
			if n := len(more); n > 0 && more[n-1] == "down" {
				server.Down, more = true, more[:n-1]
			}
			if len(more) > 1 {
				return errors.New("a server has one name at most")
			}
			if len(more) == 1 {
				server.Name = more[0]
			}
			p := &c.service.Pools[len(c.service.Pools)-1]
			p.Servers = append(p.Servers, server)
		case words[0] == "group" && len(words)%2 == 0:
			g := PoolGroup{Name: words[1]}
			for i := 2; i < len(words); i += 2 {
				g.Members = append(g.Members, PoolMember{Pool: words[i], Label: words[i+1]})
			}
			c.service.PoolGroups = append(c.service.PoolGroups, g)
		case (words[0] == "implicit-labels" && len(words) == 1 || words[0] == "fallback-label" && len(words) == 2) && len(c.service.PoolGroups) > 0:
			g := &c.service.PoolGroups[len(c.service.PoolGroups)-1]
			if len(words) == 1 {
				g.ImplicitLabels = true
			} else {
				g.FallbackLabel = words[1]
			}
		default:
			return errors.New("want: pool NAME [ALGORITHM], server ADDRESS:PORT [NAME] [down], group NAME [POOL LABEL …], " +
				"or, below a group, implicit-labels or fallback-label LABEL")
		}
		return nil
	})
}

func (c *testCase) parseTables(s *section) error {
	entries, err := s.entries()
	c.service.Tables.Set(entries...)
	return err
}

// entries reads persistence entries.
func (s *section) entries() (entries []Entry, err error) {
	seen := map[tableKey]bool{}
	return entries, s.statements(func(words []string) error {
		if len(words) == 3 {
			words = append([]string{""}, words...)
		}
		if len(words) != 4 {
			return errors.New("want: [TABLE] KEY VALUE LIFETIME")
		}
		e := Entry{Table: words[0], Key: words[1], Value: words[2]}
		if e.Lifetime, err = time.ParseDuration(words[3]); err != nil || e.Lifetime <= 0 {
			return fmt.Errorf("lifetime %q is not a positive duration such as 300s", words[3])
		}
		k := tableKey{e.Table, e.Key}
		if seen[k] {
			return fmt.Errorf("a second entry for key %q", e.Key)
		}
		seen[k] = true
		entries = append(entries, e)
		return nil
	})
}

// formatEntries is the reverse of entries.
func formatEntries(entries []Entry) string {
	var b strings.Builder
	for _, e := range entries {
		lifetime := e.Lifetime.String()
		if e.Lifetime%time.Second == 0 {
			lifetime = strconv.FormatInt(int64(e.Lifetime/time.Second), 10) + "s"
		}
		if e.Table != "" {
			b.WriteString(joinWords(e.Table) + " ")
		}
		b.WriteString(joinWords(e.Key, e.Value, lifetime) + "\n")
	}
	return b.String()
}

func (c *testCase) parseIPGroups(s *section) error {
	c.service.IPGroups = IPGroups{}
	return s.statements(func(words []string) error {
		if words[0] != "group" || len(words) < 2 {
			return errors.New("want: group NAME [ADDRESS or PREFIX …]")
		}
		networks := c.service.IPGroups[words[1]]
		for _, w := range words[2:] {
			network, err := netip.ParsePrefix(w)
			if addr, e := netip.ParseAddr(w); e == nil {
				network, err = addr.Prefix(addr.BitLen())
			}
			if err != nil {
				return fmt.Errorf("%q is neither an address nor a prefix", w)
			}
			networks = append(networks, network)
		}
		c.service.IPGroups[words[1]] = networks
		return nil
	})
}

func (c *testCase) parseStringGroups(s *section) error {
	return s.statements(func(words []string) error {
		g := StringGroup{IsMap: words[0] == "map"}
		switch {
		case words[0] == "list" && len(words) >= 2:
			for _, w := range words[2:] {
				g.Entries = append(g.Entries, StringEntry{Key: w})
			}
		case words[0] == "map" && len(words)%2 == 0:
			for i := 2; i < len(words); i += 2 {
				g.Entries = append(g.Entries, StringEntry{words[i], words[i+1]})
			}
		default:
			return errors.New("want: list NAME [STRING …], or map NAME [KEY VALUE …]")
		}
		g.Name = words[1]
		c.service.StringGroups = append(c.service.StringGroups, g)
		return nil
	})
}

func (c *testCase) parseClientCert(s *section) error {
	block, rest := pem.Decode([]byte(s.text))
	if block == nil || strings.TrimSpace(string(rest)) != "" {
		return s.errorf(-1, "want: one certificate in PEM")
	}
	var err error
	if c.clientCert, err = x509.ParseCertificate(block.Bytes); err != nil {
		return s.errorf(-1, "%v", err)
	}
	return nil
}

func (c *testCase) parseRequests(s *section) error {
	messages, err := s.messages(isRequestLine)
	if err != nil {
		return err
	}
	client := defaultClient
	for _, m := range messages {
		var st step
		var encrypted *tls.ConnectionState
		for _, d := range m.directives {
			if err := c.before(&st, d.words, &client, &encrypted); err != nil {
				return s.errorf(d.line, "%v", err)
			}
		}
		if m.line < 0 {
			return s.errorf(m.directives[0].line, "no request after the directive")
		}
		if st.request, err = m.request(); err != nil {
			return s.errorf(m.line, "%v", err)
		}
		st.request.RemoteAddr = client.String()
		st.request.TLS = encrypted
		c.steps = append(c.steps, st)
	}
	if len(c.steps) == 0 {
		return s.errorf(-1, "no request")
	}
	return nil
}

// before takes a directive that stands before a request.
func (c *testCase) before(st *step, words []string, client *netip.AddrPort, encrypted **tls.ConnectionState) (err error) {
	switch {
	case words[0] == "client" && len(words) == 2:
		*client, err = netip.ParseAddrPort(words[1])
	case words[0] == "after" && len(words) == 2:
		if st.after, err = time.ParseDuration(words[1]); err == nil && st.after <= 0 {
			return fmt.Errorf("after %v: not in the future", st.after)
		}
	case words[0] == "tls" && len(words)%2 == 1:
		*encrypted, err = c.tlsState(words[1:])
	case words[0] == "request-id" && len(words) == 2:
		st.connection.id = words[1]
	case words[0] == "no-tunnel" && len(words) == 1:
		st.connection.noTunnel = true
	case words[0] == "fingerprint" && len(words) == 3:
		if st.connection.fingerprints == nil {
			st.connection.fingerprints = map[string]string{}
		}
		st.connection.fingerprints[words[1]] = words[2]
	case words[0] == "saml" && len(words) == 2:
		st.connection.attributes = words[1]
	case words[0] == "claim" && len(words) > 3:
		var claim Claim
		if claim.Provider, err = strconv.Atoi(words[1]); err != nil {
			return err
		}
		claim.Name, claim.Values = words[2], words[3:]
		st.connection.claims = append(st.connection.claims, claim)
	case (words[0] == "down" || words[0] == "up") && len(words) == 3:
		server, _, err := c.service.Pools.find(words[1], words[2], 0)
		if err == nil && server == nil {
			err = fmt.Errorf("pool %q has no server %q", words[1], words[2])
		}
		if err != nil {
			return err
		}
		st.servers = append(st.servers, serverChange{server, words[0] == "down"})
	default:
		return errors.New("want: # client ADDRESS:PORT, # after DURATION, # tls [NAME VALUE …], # request-id ID, # no-tunnel, " +
			"# fingerprint KIND VALUE, # saml ATTRIBUTES, # claim PROVIDER NAME VALUE…, # down POOL SERVER, or # up POOL SERVER")
	}
	return err
}

// tlsState makes the state of a connection of names and values.
func (c *testCase) tlsState(words []string) (*tls.ConnectionState, error) {
	state := &tls.ConnectionState{}
	for i := 0; i < len(words); i += 2 {
		switch name, value := words[i], words[i+1]; {
		case name == "version" && tlsVersions[value] != 0:
			state.Version = tlsVersions[value]
		case name == "cipher" && cipherSuite(value) != 0:
			state.CipherSuite = cipherSuite(value)
		case name == "server-name":
			state.ServerName = value
		case name == "client-cert" && (value == "verified" || value == "unverified"):
			if c.clientCert == nil {
				return nil, errors.New("no section client-cert")
			}
			state.PeerCertificates = []*x509.Certificate{c.clientCert}
			if value == "verified" {
				state.VerifiedChains = [][]*x509.Certificate{{c.clientCert}}
			}
		default:
			return nil, fmt.Errorf("tls %s %s: want version 1.0 to 1.3, cipher NAME (as crypto/tls has it), server-name HOST, "+
				"or client-cert verified or unverified", name, value)
		}
	}
	return state, nil
}

var tlsVersions = map[string]uint16{
	"1.0": tls.VersionTLS10, "1.1": tls.VersionTLS11, "1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13,
}

// cipherSuite returns a cipher suite by name, 0 if there is none.
func cipherSuite(name string) uint16 {
	for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		if s.Name == name {
			return s.ID
		}
	}
	return 0
}

func (c *testCase) parseResponses(s *section) error {
	messages, err := s.messages(isStatusLine)
	if err != nil {
		return err
	}
	for _, m := range messages {
		for _, d := range m.directives {
			a := answer{}
			if len(d.words) == 2 {
				a.failure, _ = strconv.Atoi(d.words[1])
			}
			if d.words[0] != "fails" || len(d.words) > 2 || len(d.words) == 2 && (a.failure < 500 || a.failure > 599) {
				return s.errorf(d.line, "want: # fails [STATUS]")
			}
			c.answers = append(c.answers, a)
		}
		if m.line >= 0 {
			response, err := m.response()
			if err != nil {
				return s.errorf(m.line, "%v", err)
			}
			c.answers = append(c.answers, answer{response: response})
		}
	}
	if n := len(c.answers); n != 1 && n != len(c.steps) {
		return s.errorf(-1, "%d responses to %d requests; want one for each, or one for all", n, len(c.steps))
	}
	return nil
}
