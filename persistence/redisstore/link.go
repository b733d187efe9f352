package redisstore

import (
	"context"
	"crypto/tls"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	_ "embed"

	"github.com/redis/rueidis"

	"github.com/limpetlb/limpet/persistence"
)

//go:embed store.lua
var source string

// storing is the script. saving is the same for a server without memory: verbs
// that store nothing new work there too.
var (
	storing = rueidis.NewLuaScript(source)
	saving  = rueidis.NewLuaScript("#!lua flags=allow-oom\n" + source)
)

// Times of connections. A connection that answers nothing is found broken after
// at most the sum.
const (
	dialTimeout  = time.Second
	pingInterval = time.Second
	pingTimeout  = time.Second
)

// A link is a client of the server and its connections, which can all be closed
// at once.
type link struct {
	client rueidis.Client

	mu    sync.Mutex
	conns map[net.Conn]string // the address that was dialled
	known map[string]struct{} // addresses that have been dialled
	isCut bool
}

// connect connects to the server.
func (l *link) connect(c Config, near *nearCache) error {
	o := rueidis.ClientOption{
		InitAddress: c.Addresses, Username: c.Username, Password: string(c.Password), SelectDB: c.Database,
		TLSConfig: c.TLS, DialCtxFn: l.dial, ClientName: "limpet",
		Dialer:           net.Dialer{Timeout: dialTimeout, KeepAlive: pingInterval},
		ConnWriteTimeout: pingTimeout,
		DisableRetry:     true, AlwaysPipelining: true, PipelineMultiplex: -1,
		ReadBufferEachConn: 64 << 10, WriteBufferEachConn: 64 << 10,
		ClientSetInfo:     rueidis.DisableClientSetInfo,
		CacheSizeEachConn: 1, // its own cache is not used
		DisableCache:      true,
	}
	if near != nil {
		o.DisableCache = false
		o.ClientTrackingOptions = []string{} // not those of the client library; see nearCache
		o.OnInvalidations = near.invalidate
	}
	client, err := rueidis.NewClient(o)
	if err != nil {
		l.cut()
		return err
	}
	l.client = client
	return nil
}

// dial is how the client connects.
func (l *link) dial(ctx context.Context, address string, dialer *net.Dialer, config *tls.Config) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	raw, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c := &linkConn{Conn: raw, link: l}
	l.mu.Lock()
	if l.isCut {
		l.mu.Unlock()
		raw.Close()
		return nil, net.ErrClosed
	}
	if l.conns == nil {
		l.conns, l.known = make(map[net.Conn]string), make(map[string]struct{})
	}
	l.conns[raw], l.known[address] = address, struct{}{}
	l.mu.Unlock()
	if config == nil {
		return newGuard(c), nil
	}
	config = config.Clone()
	if config.ServerName == "" {
		config.ServerName, _, _ = net.SplitHostPort(address)
	}
	secure := tls.Client(c, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	return newGuard(secure), nil
}

// A linkConn is a connection that leaves its link when it is closed.
type linkConn struct {
	net.Conn
	link *link
}

func (c *linkConn) Close() error {
	c.link.mu.Lock()
	delete(c.link.conns, c.Conn)
	c.link.mu.Unlock()
	return c.Conn.Close()
}

// nodes returns the servers to which the client has connected.
func (l *link) nodes() (nodes []persistence.NodeStats) {
	l.mu.Lock()
	defer l.mu.Unlock()
	up := make(map[string]bool, len(l.known))
	for _, address := range l.conns {
		up[address] = true
	}
	for _, address := range slices.Sorted(maps.Keys(l.known)) {
		nodes = append(nodes, persistence.NodeStats{Address: address, Up: up[address]})
	}
	return nodes
}

// cut closes all connections; calls that wait for an answer get an error.
func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.isCut = true
	for c := range l.conns {
		c.Close()
	}
}

// close cuts the link and waits until the client's goroutines are gone.
func (l *link) close() {
	l.cut()
	if l.client != nil {
		l.client.Close()
	}
}

// An answer is the result of the script, without the number of the call.
type answer struct {
	status int64
	fields []rueidis.RedisMessage
}

// Statuses, as in the script.
const (
	statusFound   = 1
	statusNone    = 0
	statusRefused = -1
	statusForeign = -2
	statusLarge   = -3
)

func (a answer) text(i int) (string, error) { return a.fields[i].ToString() }

func (a answer) number(i int) (int64, error) { return a.fields[i].AsInt64() }

// run runs the script. The server returns the number of the call, so that the
// answer of another call is always recognised.
func (l *link) run(ctx context.Context, script *rueidis.Lua, names, args []string, number uint64) (answer, error) {
	args[0] = strconv.FormatUint(number, 10)
	fields, err := script.Exec(ctx, l.client, names, args).ToArray()
	if err != nil {
		return answer{}, err
	}
	if len(fields) < 2 {
		return answer{}, fmt.Errorf("%w: %d fields", errMismatch, len(fields))
	}
	got, err := fields[0].ToString()
	if err != nil || got != args[0] {
		return answer{}, errMismatch
	}
	status, err := fields[1].AsInt64()
	if err != nil {
		return answer{}, errMismatch
	}
	return answer{status, fields[2:]}, nil
}
