package persistencetest

import (
	"fmt"
	"math"
	"math/big"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/limpetlb/limpet/persistence"
)

// A model does the same as a store, simply, and compares the results.
//
// It does not know at which moment of a call the store read its clock, nor how
// exact that clock is. So each entry has an earliest and a latest deadline.
// Between them, and while a call takes, the store may find the entry or not;
// the model then follows the store.
type model struct {
	t       *testing.T
	store   Store
	o       Options // with defaults
	entries map[[2]string]*modelEntry
	from    time.Time     // when the current call began
	called  bool          // and has not returned
	longest time.Duration // that a call has taken
}

type modelEntry struct {
	value            string
	earliest, latest time.Time // deadlines
	idle             time.Duration
	first, last      time.Time // upper bounds of the deadlines; zero for none
}

func newModel(t *testing.T, store Store, o Options) *model {
	return &model{t: t, store: store, o: o, entries: make(map[[2]string]*modelEntry)}
}

// check is for what a call returns, once it has.
func (m *model) check(err error) {
	m.t.Helper()
	if m.called {
		m.called, m.longest = false, max(m.longest, time.Since(m.from))
	}
	if err != nil {
		m.t.Fatalf("the store returns an error: %v", err)
	}
}

func (m *model) wait(d time.Duration) {
	if d > 0 {
		<-time.After(d)
	}
}

func (m *model) begin() { m.from, m.called = time.Now(), true }

// find returns the entry under a key after a call that found it or not. It
// returns nil if the entry is not live, and fails the test if the store cannot
// be right.
func (m *model) find(what, table, key string, found bool) *modelEntry {
	m.t.Helper()
	name := [2]string{table, key}
	e := m.entries[name]
	switch {
	case e == nil:
		if found {
			m.t.Fatalf("%s: found, but there is none", what)
		}
		return nil
	case found && !m.from.Before(e.latest.Add(m.o.Tolerance)):
		m.t.Fatalf("%s: found %v after its deadline", what, m.from.Sub(e.latest))
	case !found && time.Now().Before(e.earliest.Add(-m.o.Tolerance)):
		m.t.Fatalf("%s: not found %v before its deadline", what, time.Until(e.earliest))
	}
	if !found {
		delete(m.entries, name)
		return nil
	}
	return e
}

// maybeLive reports whether the store may find a key, and whether it must.
func (m *model) maybeLive(table, key string) (may, must bool) {
	e := m.entries[[2]string{table, key}]
	if e == nil {
		return false, false
	}
	return m.from.Before(e.latest.Add(m.o.Tolerance)), time.Now().Before(e.earliest.Add(-m.o.Tolerance))
}

// same fails the test if the store returned something else than it must.
func (m *model) same(what string, got, want any) {
	m.t.Helper()
	if got != want {
		m.t.Fatalf("%s: got %v, want %v", what, got, want)
	}
}

// left fails the test if the remaining lifetime that the store returned is
// wrong. A store that remembers an answer must reckon with an entry that is
// older by the time that the call took.
func (m *model) left(what string, e *modelEntry, got time.Duration) {
	m.t.Helper()
	least := max(0, time.Until(e.earliest)-m.o.Tolerance-m.longest)
	most := e.latest.Sub(m.from) + m.o.Tolerance
	// A store that rounds may round the last moment to nothing.
	if got < least || got > most || got <= 0 && m.o.Tolerance == 0 {
		m.t.Fatalf("%s: %v is left, want %v to %v", what, got, least, most)
	}
}

// set gives an entry a new lifetime.
func (m *model) set(e *modelEntry, d time.Duration) {
	d = min(d, m.o.MaxLifetime)
	e.earliest, e.latest = m.from.Add(d), time.Now().Add(d)
	e.cut()
}

func (e *modelEntry) cut() {
	if e.idle > 0 {
		if e.earliest.After(e.first) {
			e.earliest = e.first
		}
		if e.latest.After(e.last) {
			e.latest = e.last
		}
	}
}

// extend extends an entry.
func (m *model) extend(e *modelEntry, d time.Duration) {
	later := func(a, b time.Time) time.Time {
		if a.After(b) {
			return a
		}
		return b
	}
	if e.idle > 0 {
		earliest, latest := e.earliest, e.latest
		m.set(e, e.idle)
		e.earliest, e.latest = later(e.earliest, earliest), later(e.latest, latest)
		return
	}
	if d <= 0 {
		return
	}
	d = min(d, m.o.MaxLifetime)
	now := time.Now()
	if m.o.Sliding {
		e.earliest, e.latest = later(e.earliest, m.from.Add(d)), later(e.latest, now.Add(d))
		return
	}
	earlier := func(a, b time.Time) time.Time {
		if a.Before(b) {
			return a
		}
		return b
	}
	e.earliest = later(e.earliest, earlier(e.earliest.Add(d), m.from.Add(m.o.MaxLifetime)))
	e.latest = later(e.latest, earlier(e.latest.Add(d), now.Add(m.o.MaxLifetime)))
}

func (m *model) add(table, key, value string, lifetime time.Duration) *modelEntry {
	e := &modelEntry{value: value}
	m.set(e, lifetime)
	m.entries[[2]string{table, key}] = e
	return e
}

func (m *model) insert(table, key, value string, lifetime time.Duration) {
	m.t.Helper()
	what := call("Insert", table, key, value, lifetime)
	m.begin()
	ok, err := m.store.Insert(m.t.Context(), table, key, value, lifetime)
	m.check(err)
	m.same(what, ok, lifetime > 0)
	if !ok {
		return
	}
	may, must := m.maybeLive(table, key)
	if may != must {
		m.remove(table, key) // its value is unknown
		return
	}
	if may {
		m.set(m.entries[[2]string{table, key}], lifetime)
	} else {
		m.add(table, key, value, lifetime)
	}
}

func (m *model) put(table, key, value string, lifetime time.Duration) {
	m.t.Helper()
	m.begin()
	ok, err := m.store.Put(m.t.Context(), table, key, value, lifetime)
	m.check(err)
	m.same(call("Put", table, key, value, lifetime), ok, lifetime > 0)
	if ok {
		m.add(table, key, value, lifetime)
	}
}

func (m *model) putIdle(store idleStore, table, key, value string, idle, atMost time.Duration) {
	m.t.Helper()
	m.begin()
	ok, err := store.PutIdle(m.t.Context(), table, key, value, idle, atMost)
	m.check(err)
	m.same(call("PutIdle", table, key, value, idle, atMost), ok, idle > 0 && atMost > 0)
	if ok {
		e := m.add(table, key, value, atMost)
		e.idle, e.first, e.last = idle, e.earliest, e.latest
		m.set(e, idle)
	}
}

func (m *model) lookupOrInsert(table, key, value string, lifetime time.Duration) {
	m.t.Helper()
	what := call("LookupOrInsert", table, key, value, lifetime)
	m.begin()
	actual, left, found, err := m.store.LookupOrInsert(m.t.Context(), table, key, value, lifetime)
	m.check(err)
	if lifetime <= 0 {
		m.same(what+": value", actual, "")
		m.same(what+": remaining", left, time.Duration(0))
		m.same(what+": found", found, false)
		return
	}
	e := m.find(what, table, key, found)
	if e == nil {
		e = m.add(table, key, value, lifetime)
	} else {
		m.set(e, lifetime)
	}
	m.same(what+": value", actual, e.value)
	m.left(what, e, left)
}

func (m *model) claim(table, key, value, instead string, lifetime time.Duration) {
	m.t.Helper()
	what := call("Claim", table, key, value, instead, lifetime)
	m.begin()
	actual, left, err := m.store.Claim(m.t.Context(), table, key, value, instead, lifetime)
	m.check(err)
	if lifetime <= 0 {
		m.same(what+": value", actual, "")
		m.same(what+": remaining", left, time.Duration(0))
		return
	}
	may, must := m.maybeLive(table, key)
	if may != must {
		m.remove(table, key) // its value is unknown
		return
	}
	e := m.entries[[2]string{table, key}]
	if !may || instead != "" && e.value == instead {
		e = m.add(table, key, value, lifetime)
	}
	m.same(what+": value", actual, e.value)
	m.left(what, e, left)
}

// count compares the counts of live entries by value. An entry that expires
// about now may be counted.
func (m *model) count(store countingStore, table string) {
	m.t.Helper()
	m.begin()
	got, err := store.CountByValue(m.t.Context(), table)
	m.check(err)
	least, most := make(map[string]int), make(map[string]int)
	for name, e := range m.entries {
		if name[0] != table {
			continue
		}
		value := shown(e.value)
		may, must := m.maybeLive(name[0], name[1])
		if may {
			most[value]++
		}
		if must {
			least[value]++
		}
	}
	for _, counts := range []map[string]int{got, most} { // all values
		for value := range counts {
			if n := got[value]; n < least[value] || n > most[value] {
				m.t.Fatalf("%s: got %v, want %v to %v", call("CountByValue", table), got, least, most)
			}
		}
	}
}

// shown returns a value without the zero byte behind an address with port.
func shown(value string) string {
	if text, ok := strings.CutSuffix(value, "\x00"); ok {
		if _, err := netip.ParseAddrPort(text); err == nil {
			return text
		}
	}
	return value
}

// scan compares all pages together. An entry that expires about now may be on
// one.
func (m *model) scan(store scanningStore, table string, o persistence.ScanOptions) {
	m.t.Helper()
	what, seen, pages := call("Scan", table, fmt.Sprintf("%+v", o)), map[string]bool{}, 0
	for {
		m.begin()
		items, next, err := store.Scan(m.t.Context(), table, o)
		m.check(err)
		for _, item := range items {
			e := m.find(what+": "+item.Key, table, item.Key, true)
			m.same(what+": value", item.Value, shown(e.value))
			m.left(what, e, item.Remaining)
			if !strings.HasPrefix(item.Key, o.Prefix) || o.Value != "" && item.Value != o.Value {
				m.t.Fatalf("%s: got %+v", what, item)
			}
			seen[item.Key] = true
		}
		if pages++; next == "" {
			break
		}
		if pages > 10_000 {
			m.t.Fatalf("%s: %d pages and no end", what, pages)
		}
		o.Cursor = next
	}
	for name, e := range m.entries {
		fits := name[0] == table && strings.HasPrefix(name[1], o.Prefix) && (o.Value == "" || shown(e.value) == o.Value)
		if _, must := m.maybeLive(name[0], name[1]); must && fits && !seen[name[1]] {
			m.t.Fatalf("%s: %q is on no page", what, name[1])
		}
	}
	if len(seen) > 250 && o.Limit > 0 && o.Limit < 100 && pages == 1 {
		m.t.Fatalf("%s: one page of %d items", what, len(seen))
	}
}

func (m *model) peek(store peekingStore, table, key string) {
	m.t.Helper()
	what := call("Peek", table, key)
	m.begin()
	value, left, ok, err := store.Peek(m.t.Context(), table, key)
	m.check(err)
	if e := m.find(what, table, key, ok); e != nil {
		m.same(what+": value", value, e.value)
		m.left(what, e, left)
	} else {
		m.same(what+": value", value, "")
	}
}

func (m *model) compareAndRemove(store comparingStore, table, key, old string) {
	m.t.Helper()
	what := call("CompareAndRemove", table, key, old)
	m.begin()
	removed, err := store.CompareAndRemove(m.t.Context(), table, key, old)
	m.check(err)
	e := m.entries[[2]string{table, key}]
	if e != nil && e.value != old && shown(e.value) != old {
		m.same(what, removed, false)
		return // whether it is live does not matter
	}
	m.find(what, table, key, removed)
	delete(m.entries, [2]string{table, key})
}

func (m *model) lookup(table, key string, extend time.Duration) {
	m.t.Helper()
	what := call("Lookup", table, key, extend)
	m.begin()
	value, left, ok, err := m.store.Lookup(m.t.Context(), table, key, extend)
	m.check(err)
	e := m.find(what, table, key, ok)
	if e == nil {
		m.same(what+": value", value, "")
		if left > 0 {
			m.t.Fatalf("%s: %v is left of nothing", what, left)
		}
		return
	}
	m.extend(e, extend)
	m.same(what+": value", value, e.value)
	m.left(what, e, left)
}

func (m *model) refresh(table, key string, extend time.Duration) {
	m.t.Helper()
	m.begin()
	ok, err := m.store.Refresh(m.t.Context(), table, key, extend)
	m.check(err)
	if e := m.find(call("Refresh", table, key, extend), table, key, ok); e != nil {
		m.extend(e, extend)
	}
}

func (m *model) touch(table, key string, lifetime time.Duration) {
	m.t.Helper()
	what := call("Touch", table, key, lifetime)
	m.begin()
	ok, err := m.store.Touch(m.t.Context(), table, key, lifetime)
	m.check(err)
	if lifetime <= 0 {
		m.same(what, ok, false)
		return
	}
	if e := m.find(what, table, key, ok); e != nil {
		m.set(e, lifetime)
	}
}

func (m *model) remove(table, key string) {
	m.t.Helper()
	m.check(m.store.Remove(m.t.Context(), table, key))
	delete(m.entries, [2]string{table, key})
}

func (m *model) compareAndSwap(table, key, old, new string) {
	m.t.Helper()
	what := call("CompareAndSwap", table, key, old, new)
	m.begin()
	swapped, err := m.store.CompareAndSwap(m.t.Context(), table, key, old, new)
	m.check(err)
	e := m.entries[[2]string{table, key}]
	if e != nil && e.value != old {
		m.same(what, swapped, false)
		return // whether it is live does not matter
	}
	if e = m.find(what, table, key, swapped); e != nil {
		e.value = new
	}
}

func (m *model) increment(table, key string, delta int64, lifetime time.Duration) {
	m.t.Helper()
	what := call("Increment", table, key, delta, lifetime)
	m.begin()
	sum, ok, err := m.store.Increment(m.t.Context(), table, key, delta, lifetime)
	m.check(err)

	may, must := m.maybeLive(table, key)
	if may != must {
		m.remove(table, key) // the sum is unknown
		return
	}
	if !may {
		m.same(what+": ok", ok, lifetime > 0)
		if ok {
			m.same(what, sum, delta)
			m.add(table, key, strconv.FormatInt(delta, 10), lifetime)
		}
		return
	}
	e := m.entries[[2]string{table, key}]
	number, isNumber := new(big.Int).SetString(e.value, 10)
	isNumber = isNumber && number.IsInt64()
	m.same(what+": ok", ok, isNumber)
	if !isNumber {
		return
	}
	switch number.Add(number, big.NewInt(delta)); {
	case number.IsInt64():
	case delta > 0:
		number.SetInt64(math.MaxInt64)
	default:
		number.SetInt64(math.MinInt64)
	}
	m.same(what, sum, number.Int64())
	e.value = number.String()
}
