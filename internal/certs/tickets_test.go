package certs

import (
	"bytes"
	"crypto/tls"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limpetlb/limpet/internal/testcerts"
	"github.com/limpetlb/limpet/internal/testfiles"
)

// A visitor is a client that keeps its first session, and takes no other.
type visitor struct {
	config  *tls.Config
	session *tls.ClientSessionState
}

// Get implements tls.ClientSessionCache.
func (v *visitor) Get(string) (*tls.ClientSessionState, bool) { return v.session, v.session != nil }

// Put implements tls.ClientSessionCache.
func (v *visitor) Put(_ string, s *tls.ClientSessionState) {
	if v.session == nil {
		v.session = s
	}
}

// Sessions can be resumed in another process that has the keys, for as long as
// in this one: a key seals for a day, and opens for a week.
func TestTickets(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, files := testcerts.NewAuthority(t, "test"), map[string]string{}
				put(t, files, "a", a.Issue(t, nil, "a.example.com"))
				cfg := config(testfiles.Write(t, files), "a")
				policy := loaded(t, cfg)
				old, next := NewStore(policy), NewStore(policy) // which two runtimes of a file share
				if keys := old.TicketKeys(); len(keys) > 0 {
					t.Errorf("%d bytes of keys before a handshake", len(keys))
				}
				visit := func(v *visitor, s *Store) (resumed bool) {
					t.Helper()
					state, err, serverErr := shake(t, s.Server(never), v.config)
					if err != nil {
						t.Fatal(err, serverErr)
					}
					return state.DidResume
				}
				begin := func(s *Store) *visitor {
					t.Helper()
					v := &visitor{}
					v.config = &tls.Config{ServerName: "a.example.com", RootCAs: a.Pool(), MaxVersion: version, ClientSessionCache: v}
					if visit(v, s) || v.session == nil {
						t.Fatal("no new session")
					}
					return v
				}
				early := begin(old)
				if visit(early, next) {
					t.Error("resumed without the keys")
				}
				if err := next.AddTicketKeys(old.TicketKeys()); err != nil {
					t.Fatal(err)
				}
				own := begin(next)
				for range 2 {
					if !visit(early, next) || !visit(early, old) || !visit(own, next) {
						t.Error("not resumed")
					}
					next.Use(loaded(t, cfg)) // as by a reload
				}
				if err := next.AddTicketKeys(old.TicketKeys()); err != nil || len(next.tickets.keys) != 2 {
					t.Errorf("%d keys, %v", len(next.tickets.keys), err)
				}

				time.Sleep(ticketRotation - time.Second)
				begin(old)
				if n := len(old.tickets.keys); n != 1 {
					t.Errorf("%d keys on the first day", n)
				}
				time.Sleep(time.Second)
				late := begin(old)
				if n := len(old.tickets.keys); n != 2 {
					t.Errorf("%d keys on the second day", n)
				}
				third := NewStore(loaded(t, cfg))
				if err := third.AddTicketKeys(old.TicketKeys()); err != nil || !visit(early, third) || !visit(late, third) {
					t.Errorf("not resumed with two keys: %v", err)
				}
				if begin(third); !bytes.Equal(third.TicketKeys(), old.TicketKeys()) {
					t.Error("another key than that of the second day")
				}
				time.Sleep(ticketLifetime - ticketRotation - time.Second)
				if !visit(early, third) {
					t.Error("not resumed in the last second of a week")
				}
				time.Sleep(ticketRotation)
				if visit(early, third) || !visit(late, third) || len(third.tickets.keys) != 3 {
					t.Errorf("after a week there are %d keys", len(third.tickets.keys))
				}

				before := third.TicketKeys()
				for _, damaged := range [][]byte{{1}, before[1:]} {
					if err := third.AddTicketKeys(damaged); err == nil || !bytes.Equal(third.TicketKeys(), before) {
						t.Errorf("damaged keys: %v", err)
					}
				}
				future := append([]byte{0x7f}, before[1:ticketKeyBytes]...)
				if err := third.AddTicketKeys(future); err != nil {
					t.Fatal(err)
				}
				if made := third.tickets.keys[0].made; made.After(time.Now()) {
					t.Errorf("a key of %v", made)
				}
			})
		})
	}
}
