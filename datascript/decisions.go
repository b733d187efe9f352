package datascript

import (
	"net/http"
	"net/netip"
	"slices"

	lua "github.com/yuin/gopher-lua"
)

// decisions are the decisions of a script. They are staged until it ends; then
// they go to the transaction or, if the script has failed, are dropped.
type decisions struct {
	reply     *reply
	closing   closing
	selection selection
	undo      []func() // undo the changes made in place, in order
	others    []func() // further ones, for abilities of the transaction; see decide
	user      *string  // the argument of set_userid
	headers   int      // bytes written to headers
	stored    int      // bytes written to persistence tables

	logLines, logBytes int

	// The last entry that a look-up found.
	found found
}

// A found is the result of the last successful look-up of an event. The entry
// may expire before the script selects by its key.
type found struct {
	table, key string
	value      string // as stored
	text       string // as the script sees it
	left       lua.LNumber
	ok         bool
	removed    bool // by the script, since then
}

// isLive reports whether the entry can be selected by its key: it is in the
// default table, and the script has not removed it.
func (f *found) isLive() bool { return f.ok && f.table == "" && !f.removed }

type reply struct {
	status int
	header http.Header
	body   []byte
}

type closing uint8

const (
	open closing = iota
	closeFIN
	closeRST
)

type selection struct {
	pool  string
	addr  netip.AddrPort
	entry Entry // that led to the server; without a key there is none
}

// rollback undoes the changes of the script.
func (d *decisions) rollback() {
	for _, undo := range slices.Backward(d.undo) {
		undo()
	}
	clear(d.undo)
	d.undo = d.undo[:0]
}

// commit hands the decisions to the transaction.
func (d *decisions) commit(tx Transaction) {
	if d.selection.pool != "" {
		s := &d.selection
		if selector, ok := tx.(EntrySelector); ok && s.entry.Key != "" {
			selector.SelectEntry(s.pool, s.addr, s.entry)
		} else {
			tx.SelectPool(s.pool, s.addr)
		}
		tx.Vars().selected = s.pool
	}
	for _, decision := range d.others {
		decision()
	}
	if d.reply != nil {
		tx.Reply(d.reply.status, d.reply.header, d.reply.body)
	}
	if d.closing != open {
		tx.Close(d.closing == closeRST)
	}
}

// store accounts for bytes that go into persistence tables. In total, a script
// may write no more than the size of the largest string.
func (c call) store(bytes int) {
	c.Read(bytes)
	if c.stored += bytes; c.stored > c.engine.limits.StringBytes {
		c.TooLarge()
	}
}
