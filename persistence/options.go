package persistence

import (
	"fmt"
	"time"

	"github.com/limpetlb/limpet/internal/bounds"
	"github.com/limpetlb/limpet/internal/enumtext"
	"github.com/limpetlb/limpet/internal/fielderr"
)

// A FieldError is one fault of a configuration: the Path of a field, as in
// "keys[0].secret", its Value unless that is secret, and Err, the fault. The
// constructors join one for each fault.
type FieldError = fielderr.Error

// DefaultLifetime is the lifetime, and the extension, of DataScript calls that
// name none. Tables do not apply it: their callers always name a lifetime.
const DefaultLifetime = 300 * time.Second

// DefaultMaxLifetime is the default of [Options.MaxLifetime]: seven days.
const DefaultMaxLifetime = 7 * 24 * time.Hour

// defaultMaxKeyBytes is the default of [Options.MaxKeyBytes].
const defaultMaxKeyBytes = 4 << 10

// lifetimeCeiling is the longest lifetime, so that sums of lifetimes do not
// overflow. The bounds of [Options] have it too. Those of entries and bytes let
// slot numbers, and the length of a key and its value, fit 32 bits.
const lifetimeCeiling = 10 * 365 * 24 * time.Hour

// Options bound a [Table] or a [Store]. The zero value is useful: zero means
// the default that each field names. What makes a Table or a Store panics if a
// value is negative or above the bounds that the fields name.
type Options struct {
	// MaxEntries is how many entries a table stores, including expired ones
	// that still occupy memory. A Store applies it to each of its tables. The
	// default is 1,048,576, the largest 1<<30.
	//
	// The bound is never exceeded. It is divided evenly among the shards of the
	// table, and keys are spread almost evenly: for some keys, a table of
	// several shards is full from about 95 % of MaxEntries. Tables below 8192
	// entries have one shard and are full at exactly MaxEntries.
	MaxEntries int `default:"1_048_576" min:"1" max:"1_073_741_824"`

	// MaxLifetime caps the lifetime of a new entry and the remaining lifetime
	// after an extension. The default is [DefaultMaxLifetime], the
	// longest ten years of 365 days. No entry is stored for ever.
	MaxLifetime time.Duration `default:"168h" min:"0s" max:"87600h"`

	// MinLifetime raises shorter lifetimes, but not extensions, to itself. The
	// default is no minimum. More than MaxLifetime means MaxLifetime.
	MinLifetime time.Duration `min:"0s"`

	// Sliding changes what an extension by d does. By default d is added to the
	// remaining lifetime, up to MaxLifetime. With Sliding, the remaining
	// lifetime is raised to d. Neither ever shortens a lifetime.
	Sliding bool

	// Owner returns the owner of a key, "" for none. With it, one owner cannot
	// evict the entries of others: a full table never evicts an entry of an
	// owner that has fewer entries than the owner of the new one. Keys without
	// an owner are treated as if one owner had them all. Until the table is
	// full an owner may store any number of entries, up to MaxPerOwner. Owner
	// must be fast, always return the same for a key, and be safe for
	// concurrent use: any call of the table may call it. For keys that begin
	// with an address there is [AddrKeyOwner]. Nil means that no key has an
	// owner. Tables whose keys are not strings ignore this field; see
	// [NewTableByOwner].
	Owner func(key string) (owner string)

	// MaxPerOwner is how many entries an owner may store. A new entry above the
	// limit evicts one of the same owner, or is refused, as WhenFull says.
	// Zero, the default, means no limit. A limit of 4096 or more is divided
	// among some shards of the table, as MaxEntries is among all. Keys without
	// an owner are not limited; without Owner this field has no effect.
	MaxPerOwner int `min:"0"`

	// WhenFull says what a full table does with a new key. The default is
	// [EvictUnused].
	WhenFull WhenFull

	// MaxTables is how many tables a Store creates besides the default table,
	// which always exists. The default is 64. Another table replaces one
	// without entries, or is refused; take table names from the configuration
	// or from a script, not from clients. A replaced table is created again
	// with the next entry stored in it. Tables named to [Store.Reserve] are
	// neither counted nor replaced. A Table ignores this field.
	MaxTables int `default:"64" min:"1"`

	// MaxKeyBytes is the greatest length of a key in a Store, and of the name
	// of a table. The default is 4 KiB, the largest 256 MiB. A Table ignores
	// this field.
	MaxKeyBytes int `unit:"bytes" default:"4KiB" min:"1" max:"256MiB"`

	// MaxValueBytes is the greatest length of a value in a Store. The default
	// is 16 KiB, the largest 256 MiB. A Table ignores this field.
	MaxValueBytes int `unit:"bytes" default:"16KiB" min:"1" max:"256MiB"`

	// MaxTableBytes is the memory, in bytes, for the entries of each table of a
	// Store; a table that reaches it is full. An entry costs the memory
	// allocated for its key and value together, a little more than their
	// lengths, plus 128 bytes, and 96 more with Owner. The bound is divided
	// among shards like MaxEntries. The default is 256 MiB. A store uses at
	// most this much for each of its tables: MaxTables, the default table and
	// those named to [Store.Reserve]. A Table ignores this field.
	MaxTableBytes int `unit:"bytes" default:"256MiB" min:"1"`
}

// withDefaults returns o with every field in its range. It panics with the
// faults of o.
func (o Options) withDefaults() Options {
	var faults fielderr.List
	bounds.Check("", o, &faults)
	faults.Constant("whenFull", o.WhenFull)
	if err := faults.ErrIn(o); err != nil {
		panic(fmt.Errorf("persistence: options of a table: %w", err))
	}
	bounds.SetDefaults(&o)
	o.MinLifetime = min(o.MinLifetime, o.MaxLifetime)
	return o
}

// A WhenFull says what a full table does with a new key. Options refuse values
// other than the constants.
type WhenFull uint8

const (
	// EvictUnused evicts the entry that has not been used for longest. A client
	// that returns before 90 % of the table has been replaced keeps its entry,
	// however often others use theirs. The order is exact to a thirty-second of
	// the table: several uses while less than that is stored have the effect of
	// one. Entries that have been used again stay for another quarter of the
	// table, while such entries are rare.
	EvictUnused WhenFull = iota

	// RefuseNew keeps the stored entries and refuses the new key until an entry
	// expires or is removed. A refused call examines 256 entries for expired
	// ones.
	RefuseNew
)

var whenFullWords = []string{EvictUnused: "evict unused", RefuseNew: "refuse new"}

// String returns "evict unused" or "refuse new", and "invalid" for other
// values.
func (w WhenFull) String() string { return enumtext.String(w, whenFullWords) }

// MarshalText returns what String returns, and an error for other values.
func (w WhenFull) MarshalText() ([]byte, error) { return enumtext.Marshal(w, whenFullWords) }

// UnmarshalText accepts the texts of MarshalText. Case, blanks, "-" and "_" do
// not matter. The error lists the texts.
func (w *WhenFull) UnmarshalText(text []byte) error {
	return enumtext.Unmarshal(w, text, whenFullWords)
}
