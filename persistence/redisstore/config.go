package redisstore

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/limpetlb/limpet/internal/enumtext"
	"github.com/limpetlb/limpet/persistence"
)

// Defaults of the fields of [Config].
const (
	// DefaultPrefix is the default of [Config.Prefix].
	DefaultPrefix = "limpet"
	// DefaultTimeout is the default of [Config.Timeout]: 50 milliseconds.
	DefaultTimeout = 50 * time.Millisecond
	// DefaultNearEntries is the default of [Config.NearEntries].
	DefaultNearEntries = 1 << 16
	// DefaultNearAge is the default of [Config.NearAge]: 1 minute.
	DefaultNearAge = time.Minute
)

// MaxValueBytes is the greatest length of a value, and what is read of one at most: 1 MiB. Longer values are refused, by whoever
// they were stored.
const MaxValueBytes = 1 << 20

// maxKeyBytes is the ceiling of the lengths of keys and table names.
const maxKeyBytes = 1 << 16

// maxNearAge is the ceiling of the age of values in the near cache.
const maxNearAge = time.Hour

// maxLifetime is the ceiling of lifetimes.
const maxLifetime = 10 * 365 * 24 * time.Hour

// A Config configures a [Store]. Addresses must be set; the zero values of all other fields are useful.
type Config struct {
	// Addresses are the servers, as host:port: one, or some nodes of a cluster.
	Addresses []string

	// Username is the name of an ACL user. Empty with a Password means the user "default".
	Username string

	// Password is that of the user. Empty logs in nobody.
	Password Secret

	// TLS, if not nil, makes connections use TLS. Without ServerName the host of each address is expected.
	TLS *tls.Config

	// Database is the number of the database; a cluster has only 0.
	Database int

	// Prefix keeps apart what virtual services store on one server: the names of all keys begin with "{", the prefix and "/".
	// Instances of one virtual service have the same prefix. It consists of letters, digits and any of ".", "_", "-", ":", at most 64. The
	// default is [DefaultPrefix].
	Prefix string

	// Timeout is how long a call waits for the server. Zero and negative mean [DefaultTimeout].
	Timeout time.Duration

	// Options are rules and bounds like those of persistence.NewStore, and must be the same for all instances.
	//
	// MaxLifetime, MinLifetime, Sliding, MaxKeyBytes (at most 64 KiB) and MaxValueBytes (at most [MaxValueBytes]) mean the same. MaxEntries
	// bounds each table on the server; WhenFull says what a full one does with a new key: it refuses it, or the entry that would
	// expire first goes. All fields hold for the tables in memory while the server is down.
	Options persistence.Options

	// MinExtension is the least extension worth a write: a Lookup or Refresh that would lengthen the lifetime by no more leaves it as it is,
	// and may be answered from the near cache. With Sliding, a tenth of the usual extension makes nearly all look-ups local, and entries end
	// up to a tenth earlier. Zero and negative extend always.
	MinExtension time.Duration

	// NearEntries is how many values the near cache holds, of at most 1 KiB of key and value each. It also bounds what the instance
	// remembers for the time when the server is away: let it be the number of active clients at least. Zero means [DefaultNearEntries],
	// negative no near cache, and tables in memory that begin empty.
	NearEntries int

	// NearAge is how long the near cache serves a value after it was read, even if the server sends no message about a change. Zero and
	// negative mean [DefaultNearAge]; more than an hour means an hour. Tables that fail closed never use the near cache.
	NearAge time.Duration

	// WhenDown says what calls do while the server cannot be asked. The default is [FailOpen].
	WhenDown WhenDown

	// TablesWhenDown is WhenDown for single tables, by name; "" is the default table.
	TablesWhenDown map[string]WhenDown

	// Logger gets a warning with the error when the first attempt to connect fails, and when the server is lost for longer than a second,
	// whatever happened before; again after a minute, after ten minutes, and then every hour; and one message when the server is back.
	// Outages of up to a second are counted, and told in one warning that says how many (times): ten seconds after the first
	// one, then after a minute, ten minutes, and every hour as long as there have been more, and when the store is closed.
	// Warnings about entries that the server refuses for want of memory come at once, after a minute, after ten minutes, and every
	// hour. No message shows the password. Nil discards them.
	Logger *slog.Logger
}

// WhenDown says what calls do while the server cannot be asked. Values other than the constants mean [FailClosed].
type WhenDown uint8

const (
	// FailOpen answers from tables in the memory of the instance.
	FailOpen WhenDown = iota
	// FailClosed returns [ErrUnavailable].
	FailClosed
)

var whenDownWords = []string{FailOpen: "fail open", FailClosed: "fail closed"}

// String returns "fail open" or "fail closed", and "invalid" for other values.
func (w WhenDown) String() string { return enumtext.String(w, whenDownWords) }

// MarshalText returns what String returns, and an error for other values.
func (w WhenDown) MarshalText() ([]byte, error) { return enumtext.Marshal(w, whenDownWords) }

// UnmarshalText accepts the texts of MarshalText. Case, blanks, "-" and "_" do not matter. The error lists the texts.
func (w *WhenDown) UnmarshalText(text []byte) error {
	return enumtext.Unmarshal(w, text, whenDownWords)
}

// A Secret is a string that no way of printing shows.
type Secret string

const redacted = "REDACTED"

// String returns "REDACTED".
func (Secret) String() string { return redacted }

// GoString returns "REDACTED".
func (Secret) GoString() string { return redacted }

// Format writes "REDACTED", whatever the verb.
func (Secret) Format(f fmt.State, _ rune) { f.Write([]byte(redacted)) }

// MarshalText returns "REDACTED".
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// withDefaults returns c with every field in its range, or all faults of it.
func (c Config) withDefaults() (Config, error) {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf("redisstore: "+format, args...)) }
	if len(c.Addresses) == 0 {
		fault("Addresses: are missing")
	}
	for i, address := range c.Addresses {
		if _, port, err := net.SplitHostPort(address); err != nil {
			fault("Addresses[%d]: %w", i, err)
		} else if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			fault("Addresses[%d]: %q has no port from 1 to 65535", i, address)
		}
	}
	if c.Username != "" && c.Password == "" {
		fault("Password: is missing for user %q", c.Username)
	}
	if c.Database < 0 {
		fault("Database: %d is negative", c.Database)
	}
	if c.Prefix == "" {
		c.Prefix = DefaultPrefix
	}
	if len(c.Prefix) > 64 || strings.ContainsFunc(c.Prefix, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("._-:", r))
	}) {
		fault("Prefix: %.100q is longer than 64 bytes or has other characters than letters, digits, and \"._-:\"", c.Prefix)
	}
	for name, when := range c.TablesWhenDown {
		if when > FailClosed {
			fault("TablesWhenDown[%q]: %d is not a value", name, when)
		}
	}
	if c.WhenDown > FailClosed {
		fault("WhenDown: %d is not a value", c.WhenDown)
	}
	if len(faults) > 0 {
		return c, errors.Join(faults...)
	}

	o := &c.Options
	o.MaxLifetime = min(positive(o.MaxLifetime, persistence.DefaultMaxLifetime), maxLifetime)
	o.MinLifetime = min(max(o.MinLifetime, 0), o.MaxLifetime)
	o.MaxEntries = positive(o.MaxEntries, persistence.DefaultMaxEntries)
	o.MaxKeyBytes = min(positive(o.MaxKeyBytes, persistence.DefaultMaxKeyBytes), maxKeyBytes)
	o.MaxValueBytes = min(positive(o.MaxValueBytes, persistence.DefaultMaxValueBytes), MaxValueBytes)
	c.Timeout = positive(c.Timeout, DefaultTimeout)
	c.MinExtension = max(c.MinExtension, 0)
	if c.NearEntries == 0 {
		c.NearEntries = DefaultNearEntries
	}
	c.NearAge = min(positive(c.NearAge, DefaultNearAge), maxNearAge)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

func positive[T int | time.Duration](n, def T) T {
	if n <= 0 {
		return def
	}
	return n
}
