package persistence

import (
	"time"

	"github.com/limpetlb/limpet/internal/enumtext"
)

// DefaultLifetime is the lifetime, and the extension, that DataScripts get when they name none.
// Tables do not apply it: their callers always name one.
const DefaultLifetime = 300 * time.Second

// DefaultMaxLifetime is the default of [Options.MaxLifetime]: seven days.
const DefaultMaxLifetime = 7 * 24 * time.Hour

// Defaults of the other fields of [Options].
const (
	// DefaultMaxEntries is the default of [Options.MaxEntries].
	DefaultMaxEntries = 1 << 20
	// DefaultMaxTables is the default of [Options.MaxTables].
	DefaultMaxTables = 64
	// DefaultMaxKeyBytes is the default of [Options.MaxKeyBytes]: 4 KiB.
	DefaultMaxKeyBytes = 4 << 10
	// DefaultMaxValueBytes is the default of [Options.MaxValueBytes]: 16 KiB.
	DefaultMaxValueBytes = 16 << 10
	// DefaultMaxTableBytes is the default of [Options.MaxTableBytes]: 256 MiB.
	DefaultMaxTableBytes = 256 << 20
)

const (
	lifetimeCeiling = 10 * 365 * 24 * time.Hour // far from where sums of lifetimes overflow
	entriesCeiling  = 1 << 30                   // places are numbered with 32 bits
	bytesCeiling    = 256 << 20                 // sums of key and value fit 32 bits
)

// Options bound a [Table] or a [Store]. The zero value is useful. In every numeric field zero and
// negative mean the default.
type Options struct {
	// MaxEntries is how many entries a table stores, expired ones that still occupy memory
	// included. A Store applies it to each of its tables. The default is [DefaultMaxEntries], the
	// largest 1<<30.
	//
	// The bound is never exceeded. It is divided evenly among the shards of the table, and keys are
	// not spread quite evenly: a table of several shards is full, for some keys, from about 95 % of
	// MaxEntries. Tables below 8192 entries have one shard and are full at exactly MaxEntries.
	MaxEntries int

	// MaxLifetime caps the lifetime given to an entry and what extensions may add up to. The
	// default is [DefaultMaxLifetime]; more than ten years means ten years. No entry lives for
	// ever.
	MaxLifetime time.Duration

	// MinLifetime raises shorter lifetimes (not extensions) to itself. The default is no minimum: a
	// lifetime is honoured to the nanosecond. More than MaxLifetime means MaxLifetime.
	MinLifetime time.Duration

	// Sliding changes what extending by d does. By default d is added to the deadline, and what is
	// left is capped at MaxLifetime. With Sliding the deadline becomes now plus d if that is later
	// than it was. Neither ever shortens a lifetime.
	Sliding bool

	// Owner returns the owner of a key, "" for none, so that one owner cannot take the place of
	// others: in a full table nobody pushes out the entries of an owner that has fewer. Keys without an
	// owner are treated as if one owner had them all. While there is room an owner stores as much as it
	// wants, unless MaxPerOwner says otherwise. Owner must be quick, always return the same for a key,
	// and be safe for concurrent use: any call of the table may call it. For keys that begin with an
	// address there is [AddrKeyOwner]. Nil means that no key has an owner. Tables whose keys are not
	// strings ignore this field; see [NewTableByOwner].
	Owner func(key string) (owner string)

	// MaxPerOwner is how many entries an owner stores. One more takes the place of one of its own,
	// or is refused, as WhenFull says. Zero, the default, means that there is no such bound. A bound
	// of 4096 or more is divided among some shards of the table, as MaxEntries is among all. Keys
	// without an owner are not bounded: without Owner this field has no effect.
	MaxPerOwner int

	// WhenFull says what a full table does with a new key. The default is [EvictUnused].
	WhenFull WhenFull

	// MaxTables is how many tables a Store creates besides the default table, which always exists.
	// The default is [DefaultMaxTables]. One more takes the place of a table that has no entries, or
	// is refused; names should come from the configuration or from a script, not from clients. A
	// table that has been given up comes into being again with the next entry stored in it. Tables
	// of [Store.Reserve] are not counted and not given up. A Table ignores this field.
	MaxTables int

	// MaxKeyBytes and MaxValueBytes are the greatest lengths of keys and values in a Store; table
	// names are bounded like keys. The defaults are [DefaultMaxKeyBytes] and
	// [DefaultMaxValueBytes], the largest 256 MiB each. A Table ignores these fields.
	MaxKeyBytes, MaxValueBytes int

	// MaxTableBytes is the memory, in bytes, for the entries of each table of a Store. An entry costs
	// what is allocated for its key and value together, which is a little more than their lengths,
	// and 128 bytes, which is a little more than bookkeeping takes, and 96 more with Owner. A table
	// that reaches the bound is full. The bound is divided among shards like MaxEntries. The default
	// is [DefaultMaxTableBytes]. A store has MaxTables tables at most, the default table, and those
	// of [Store.Reserve], and uses at most this much for each. A Table ignores this field.
	MaxTableBytes int
}

// withDefaults returns o with every numeric field in its range.
func (o Options) withDefaults() Options {
	o.MaxEntries = min(positive(o.MaxEntries, DefaultMaxEntries), entriesCeiling)
	o.MaxLifetime = min(positive(o.MaxLifetime, DefaultMaxLifetime), lifetimeCeiling)
	o.MinLifetime = min(max(o.MinLifetime, 0), o.MaxLifetime)
	o.MaxPerOwner = max(o.MaxPerOwner, 0)
	o.MaxTables = positive(o.MaxTables, DefaultMaxTables)
	o.MaxKeyBytes = min(positive(o.MaxKeyBytes, DefaultMaxKeyBytes), bytesCeiling)
	o.MaxValueBytes = min(positive(o.MaxValueBytes, DefaultMaxValueBytes), bytesCeiling)
	o.MaxTableBytes = positive(o.MaxTableBytes, DefaultMaxTableBytes)
	return o
}

func positive[T int | time.Duration](n, def T) T {
	if n <= 0 {
		return def
	}
	return n
}

// WhenFull says what a full table does with a new key. Values other than the constants mean
// [EvictUnused].
type WhenFull uint8

const (
	// EvictUnused makes room: the entry unused for longest goes. A client that returns before 90 % of
	// the table has been replaced keeps its entry, however often others use theirs. The order is exact
	// to a thirty-second of the table: of several uses while no more is stored one has the effect of
	// all. Entries that have been used again stay for a quarter of the table longer, as long as few
	// are.
	EvictUnused WhenFull = iota

	// RefuseNew keeps what is stored and refuses the new key until an entry expires or is removed.
	// Place taken by expired entries is found in steps: one refused insertion examines 256 entries.
	RefuseNew
)

var whenFullWords = []string{EvictUnused: "evict unused", RefuseNew: "refuse new"}

// String returns "evict unused" or "refuse new", and "invalid" for other values.
func (w WhenFull) String() string { return enumtext.String(w, whenFullWords) }

// MarshalText returns what String returns, and an error for other values.
func (w WhenFull) MarshalText() ([]byte, error) { return enumtext.Marshal(w, whenFullWords) }

// UnmarshalText accepts the texts of MarshalText. Case, blanks, "-" and "_" do not matter. The error lists the texts.
func (w *WhenFull) UnmarshalText(text []byte) error {
	return enumtext.Unmarshal(w, text, whenFullWords)
}
