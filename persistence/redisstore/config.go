package redisstore

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/limpetlb/limpet/internal/bounds"
	"github.com/limpetlb/limpet/internal/enumtext"
	"github.com/limpetlb/limpet/internal/fielderr"
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

// MaxValueBytes is the greatest length of a value: 1 MiB. Longer values are
// refused, both when stored and when read.
const MaxValueBytes = 1 << 20

// maxPrefix is the greatest length of a prefix.
const maxPrefix = 64

// maxKeyBytes is the upper limit of MaxKeyBytes.
const maxKeyBytes = 1 << 16

// A FieldError is one fault of a [Config]: the Path of a field, as in
// "addresses[0]", its Value unless that is secret, and Err, the fault. [New]
// joins one for each fault.
type FieldError = fielderr.Error

// A Config configures a [Store]. Addresses is required; the zero values of all
// other fields are useful.
type Config struct {
	// Addresses are the addresses of the server, as host:port: one, or some
	// nodes of a cluster.
	Addresses []string

	// Username is the name of an ACL user. Empty, with a Password, means the
	// user "default".
	Username string

	// Password is the password of the user. Empty means no authentication.
	Password Secret

	// TLS, if not nil, makes connections use TLS. Without ServerName, the
	// certificate must be for the host of the address.
	TLS *tls.Config

	// Database is the number of the database; a cluster only has 0.
	Database int `min:"0"`

	// Prefix separates virtual services on one server: the names of all keys
	// begin with "{", the prefix and "/". All instances of one virtual service
	// need the same prefix. It consists of at most 64 letters, digits, ".",
	// "_", "-" and ":". The default is [DefaultPrefix].
	Prefix string

	// Timeout is how long a call waits for the server. Zero means
	// [DefaultTimeout].
	Timeout time.Duration `default:"50ms" min:"0s"`

	// Options are rules and bounds as for persistence.NewStore. They must be
	// the same for all instances.
	//
	// MaxLifetime, MinLifetime, Sliding, MaxKeyBytes (at most 64 KiB) and
	// MaxValueBytes (at most [MaxValueBytes]) have the same meaning. MaxEntries
	// bounds each table on the server. WhenFull says what a full table does
	// with a new key: refuse it, or evict the entry that would expire first.
	// All fields apply to the tables in memory while the server is down.
	Options persistence.Options

	// MinExtension is the smallest extension that is written to the server: a
	// Lookup or Refresh that would lengthen the lifetime by no more does not
	// change it, and may be answered from the near cache. With Sliding, a tenth
	// of the usual extension makes nearly all look-ups local, and entries
	// expire up to a tenth earlier. Zero writes every extension.
	MinExtension time.Duration `min:"0s"`

	// NearEntries is how many values the near cache stores, each of at most 1
	// KiB of key and value. It also bounds the values that the instance
	// remembers for an outage, so set it to at least the number of active
	// clients. Zero means [DefaultNearEntries]. Negative means no near cache,
	// and tables in memory that start empty.
	NearEntries int `default:"65_536" max:"1_073_741_824" negative:"no near cache"`

	// NearAge is how long the near cache serves a value after it was read, even
	// if the server reports no change. Zero means [DefaultNearAge]; the longest
	// is an hour. Tables that fail closed never use the near cache.
	NearAge time.Duration `default:"1m" min:"0s" max:"1h"`

	// WhenDown says what calls do while the server is unavailable. The default
	// is [FailOpen].
	WhenDown WhenDown

	// TablesWhenDown overrides WhenDown for single tables, by name; "" is the
	// default table.
	TablesWhenDown map[string]WhenDown

	// Logger logs the state of the server. A warning with the error comes when
	// the first attempt to connect fails, and when the server is lost for
	// longer than a second; again after a minute, after ten minutes, and then
	// every hour. One message follows when the server is back.
	//
	// Outages of up to a second are counted, and logged in one warning with
	// their number (times): ten seconds after the first, then after a minute,
	// ten minutes, and every hour while there are more, and when the store is
	// closed. Warnings about entries that the server refuses because it has no
	// memory come at once, after a minute, after ten minutes, and every hour.
	// No message contains the password. Nil discards all messages.
	Logger *slog.Logger
}

// A WhenDown says what calls do while the server is unavailable. [New] refuses
// values other than the constants.
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

// UnmarshalText accepts the texts of MarshalText. Case, blanks, "-" and "_" do
// not matter. The error lists the texts.
func (w *WhenDown) UnmarshalText(text []byte) error {
	return enumtext.Unmarshal(w, text, whenDownWords)
}

// A Secret is a string that packages fmt, log/slog and encoding/json do not
// print.
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

// withDefaults returns c with every field in its range, or all its faults.
func (c Config) withDefaults() (Config, error) {
	var faults fielderr.List
	bounds.Check("", c, &faults)
	if len(c.Addresses) == 0 {
		faults.Addf("addresses", nil, "missing")
	}
	for i, address := range c.Addresses {
		shown := any(address)
		if strings.Contains(address, "@") {
			shown = nil // it may be a URL with a password
		}
		if _, port, err := net.SplitHostPort(address); err != nil {
			faults.Addf(fielderr.Index("addresses", i), shown, "not a host and a port")
		} else if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			faults.Addf(fielderr.Index("addresses", i), shown, "no port from 1 to 65535")
		}
	}
	if c.Username != "" && c.Password == "" {
		faults.Addf("password", nil, "missing for the user %s", fielderr.Quote(c.Username))
	}
	if c.Prefix == "" {
		c.Prefix = DefaultPrefix
	}
	if len(c.Prefix) > maxPrefix {
		faults.Addf("prefix", c.Prefix, "longer than %d bytes", maxPrefix)
	} else if strings.ContainsFunc(c.Prefix, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("._-:", r))
	}) {
		faults.Addf("prefix", c.Prefix, "has other characters than letters, digits, and \"._-:\"")
	}
	o := &c.Options
	bounds.Check("options", *o, &faults)
	if o.MaxKeyBytes > maxKeyBytes {
		faults.Addf("options.maxKeyBytes", o.MaxKeyBytes, "more than 64KiB, the most on a server")
	}
	if o.MaxValueBytes > MaxValueBytes {
		faults.Addf("options.maxValueBytes", o.MaxValueBytes, "more than 1MiB, the most on a server")
	}
	faults.Constant("options.whenFull", o.WhenFull)
	faults.Constant("whenDown", c.WhenDown)
	for _, name := range slices.Sorted(maps.Keys(c.TablesWhenDown)) {
		path := fielderr.Key("tablesWhenDown", name)
		faults.Constant(path, c.TablesWhenDown[name])
		faults.OptionalName(path, name)
	}
	if err := faults.ErrIn(c); err != nil {
		return c, err
	}

	bounds.SetDefaults(&c)
	bounds.SetDefaults(o)
	o.MinLifetime = min(o.MinLifetime, o.MaxLifetime)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}
