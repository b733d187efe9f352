package admin

import (
	"context"
	"crypto/rand"
	"hash/maphash"
	"io/fs"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/internal/tokenbucket"
	"github.com/limpetlb/limpet/ipgroup"
)

// Config are the settings of an [Admin]. Only Services is required.
type Config struct {
	// Services returns the virtual services. It is asked again and again, as
	// there may be others after an update, and must be safe for concurrent use.
	// The names of the services must differ.
	Services func() []*limpet.VirtualService
	// Reload reads the configuration again and puts it in force, for the route
	// config/reload. It returns warnings, or all faults, and then nothing has
	// changed. One call is running at a time. With nil, callers get 501.
	Reload func(ctx context.Context) (warnings []string, err error)
	// Source returns the text of the configuration without secrets, for role
	// Reveal. With nil, callers get 501.
	Source func() ([]byte, error)
	// Ready says why the program as a whole does not serve clients now; nil if
	// it does. /readyz asks it, and looks at the pools besides. A nil Ready is
	// always ready.
	Ready func() error
	// Metrics answers at /metrics, for role Read. With nil, callers get 404.
	Metrics http.Handler
	// Debug answers at /debug/, for role Operate: handlers of net/http/pprof,
	// which this package does not import. Two requests are served at a time,
	// and their parameter seconds may be up to 60. With nil, callers get 404.
	Debug http.Handler

	// Tokens are the bearer tokens that callers over TCP may have. Nil means
	// none.
	Tokens []Token
	// ClientCertificates is the role of callers with a client certificate that
	// the server's [crypto/tls.Config] has verified. Zero means none.
	ClientCertificates Role
	// SocketRole is the role of callers at a Unix socket that [NewServer]
	// serves. Zero means [Reveal].
	SocketRole Role
	// Hosts are values of the header Host that callers over TCP may use, beside
	// addresses and "localhost", without ports. Other values get 421, so that a
	// page in a browser cannot reach the Admin by a name of its own.
	Hosts []string
	// ReadOnly refuses every change with 403.
	ReadOnly bool
	// StateFile is where the changes of servers and IP groups are kept over
	// restarts. It is replaced at each change, so its directory must be
	// writable. Empty means that changes end with the process.
	StateFile string
	// Version is that of the program, for the status. Empty means that it is
	// not shown.
	Version string
	// Logger gets a line at level Warn for each change, also for those that
	// were refused, and a line for each fault of StateFile. Nil discards them.
	Logger *slog.Logger
}

// A Token is a secret that a caller sends as "Authorization: Bearer".
type Token struct {
	// Name is the token's name in the audit log.
	Name string
	// SHA256 is the hash of the secret, which must have at least 128 random
	// bits. A hash of zeros is refused.
	SHA256 [32]byte
	// Role is what callers with the token may do. Zero is refused.
	Role Role
}

// An Admin answers the requests of operators. All methods may be called
// concurrently. Create one with [New].
type Admin struct {
	config Config
	log    *slog.Logger
	begun  time.Time

	bodyTime time.Duration // that a body may take
	mux      *http.ServeMux
	hosts    map[string]bool
	origin   *http.CrossOriginProtection
	seal     *sealer

	seed    maphash.Seed       // of the addresses in guesses and refusals
	guesses *tokenbucket.Table // wrong tokens, by address
	audited *tokenbucket.Table // refusals that were audited, by address

	// overrides and edits are what operators have changed. Whoever changes
	// them, or the servers and groups that they are about, holds steering.
	steering sync.Mutex
	state    atomic.Pointer[state]
	edited   map[string]*ipgroup.Set // by service: the groups that have the edits

	reloading  sync.Mutex
	lastReload atomic.Pointer[reloadView]

	events  *hub
	changes auditLog
	live    *liveSet // that Run keeps

	scans   busySet       // tables that are scanned
	streams chan struct{} // a slot for each stream
	debugs  chan struct{}
}

// The bounds of what callers may use up.
const (
	maxBody        = 1 << 20
	maxHeader      = 16 << 10
	maxConnections = 64
	maxStreams     = 16
	maxDebugs      = 2
	guessesPerMin  = 10
	guessers       = 4096 // addresses that guess at a time
)

// New returns an Admin. It reads StateFile; one that cannot be read is moved
// aside and logged, and is no error. The error joins a [*limpet.FieldError] for
// each fault of c.
func New(c Config) (*Admin, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	size, err := tokenbucket.NewSize(guessesPerMin, time.Minute, 0)
	if err != nil {
		return nil, err // cannot happen
	}
	c.Tokens, c.Hosts = slices.Clone(c.Tokens), slices.Clone(c.Hosts)
	if c.SocketRole == 0 {
		c.SocketRole = Reveal
	}
	a := &Admin{
		config: c, log: c.Logger, begun: time.Now(), bodyTime: bodyTimeout,
		hosts: map[string]bool{"localhost": true}, origin: http.NewCrossOriginProtection(),
		seal: newSealer(), seed: maphash.MakeSeed(),
		guesses: tokenbucket.NewTable(size, guessers), audited: tokenbucket.NewTable(size, guessers),
		events: newHub(eventRing, 0), live: newLiveSet(),
		streams: make(chan struct{}, maxStreams), debugs: make(chan struct{}, maxDebugs),
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	for _, host := range c.Hosts {
		a.hosts[strings.ToLower(host)] = true
	}
	a.mux = newMux()
	a.loadState()
	return a, nil
}

func (c *Config) check() error {
	var faults fielderr.List
	if c.Services == nil {
		faults.Addf("services", nil, "missing")
	}
	names := map[string]int{}
	for i, t := range c.Tokens {
		path := fielderr.Index("tokens", i)
		if j, ok := names[t.Name]; ok {
			faults.Addf(path+".name", t.Name, "the name of tokens[%d], too", j)
		}
		names[t.Name] = i
		if t.Name == "" {
			faults.Addf(path+".name", nil, "missing")
		}
		if t.SHA256 == [32]byte{} {
			faults.Addf(path+".sha256", nil, "missing")
		}
		checkRole(&faults, path+".role", t.Role, false)
	}
	checkRole(&faults, "clientCertificates", c.ClientCertificates, true)
	checkRole(&faults, "socketRole", c.SocketRole, true)
	for i, host := range c.Hosts {
		if host == "" || strings.ContainsAny(host, ":/ \t") {
			faults.Addf(fielderr.Index("hosts", i), host, "not a host name without a port")
		}
	}
	return faults.Err()
}

func checkRole(faults *fielderr.List, path string, r Role, none bool) {
	switch faults.Constant(path, r); {
	case r == 0 && !none:
		faults.Addf(path, nil, "missing")
	}
}

// services returns the virtual services.
func (a *Admin) services() []*limpet.VirtualService { return a.config.Services() }

// service returns the virtual service with a name.
func (a *Admin) service(name string) (*limpet.VirtualService, bool) {
	for _, vs := range a.services() {
		if vs.Config().Name == name {
			return vs, true
		}
	}
	return nil, false
}

// now is a time for token buckets.
func (a *Admin) now() int64 { return int64(time.Since(a.begun)) }

// randomID returns a text that nobody guesses.
func randomID() string { return strings.ToLower(rand.Text()[:16]) }

const stateMode fs.FileMode = 0o600
