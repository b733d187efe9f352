package persistence

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// apply is a function for Send.
func apply(r *Receiver) func([]byte) error {
	return func(message []byte) error { return r.Apply(bytes.Clone(message)) }
}

// pass sends once.
func pass(tb testing.TB, s *Sender, r *Receiver) (n int) {
	tb.Helper()
	n, err := s.Send(apply(r))
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

// stores are one that sends and one that receives.
func stores(tb testing.TB, o Options) (old, next *Store, s *Sender, r *Receiver) {
	old, next, s, r = NewStore(o), NewStore(o), new(Sender), NewReceiver()
	tb.Cleanup(func() {
		s.Close()
		r.Close()
	})
	return old, next, s, r
}

func TestSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		old, next, s, r := stores(t, Options{})
		old.Insert(ctx, "", "stays", "a", time.Hour)
		old.Insert(ctx, "carts", "moves", "a", time.Hour)
		old.Insert(ctx, "carts", "goes", "a", time.Hour)
		old.Insert(ctx, "carts", "expires", "a", time.Minute)
		old.PutIdle(ctx, "carts", "idles", "a", time.Hour, 2*time.Hour)
		s.Add("store", old, "")
		s.Add("another name", old, "")
		r.Add("another name", next, "")
		next.OnDelete(func(string, string, string, DeletionCause) {})
		if n := pass(t, s, r); n != 5 {
			t.Errorf("%d entries are sent", n)
		}
		if diff := cmp.Diff(dump(old), dump(next)); diff != "" {
			t.Errorf("the first time (-want +got):\n%s", diff)
		}
		if n := pass(t, s, r); n != 0 {
			t.Errorf("%d entries have changed", n)
		}

		advance(2 * time.Minute)
		old.Put(ctx, "carts", "moves", "b", time.Hour)
		old.Remove(ctx, "carts", "goes")
		old.Claim(ctx, "new", "claims", "c", "", time.Hour)
		old.Claim(ctx, "new", "claims", "d", "c", time.Hour)
		old.Increment(ctx, "new", "counts", 3, time.Hour)
		old.CompareAndSwap(ctx, "carts", "idles", "a", "b")
		old.Lookup(ctx, "", "stays", time.Hour)
		old.Remove(ctx, "", "never was")
		if _, ok := <-s.Changed(); !ok {
			t.Error("no token")
		}
		if n := pass(t, s, r); n != 6 {
			t.Errorf("%d entries have changed", n)
		}
		if diff := cmp.Diff(dump(old), dump(next)); diff != "" {
			t.Errorf("the second time (-want +got):\n%s", diff)
		}
		// The rule of an idle entry goes along.
		advance(30 * time.Minute)
		for _, store := range []*Store{old, next} {
			if _, left, _, _ := store.Lookup(ctx, "carts", "idles", 0); left != time.Hour {
				t.Errorf("%v left", left)
			}
			advance(0)
		}
		if n := pass(t, s, r); n != 1 {
			t.Errorf("%d entries have changed", n)
		}
	})
}

// TestSendExtensions: everything that gives an entry another lifetime is a
// change, and nothing else is.
func TestSendExtensions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		old, next, s, r := stores(t, Options{})
		s.Add("", old, "")
		r.Add("", next, "")
		old.Put(ctx, "", "k", "v", time.Hour)
		pass(t, s, r)
		for name, f := range map[string]func(){
			"Lookup":             func() { old.Lookup(ctx, "", "k", time.Hour) },
			"Refresh":            func() { old.Refresh(ctx, "", "k", time.Hour) },
			"Touch":              func() { old.Touch(ctx, "", "k", 50*time.Hour) },
			"Touch, shorter":     func() { old.Touch(ctx, "", "k", time.Hour) },
			"Insert":             func() { old.Insert(ctx, "", "k", "w", 90*time.Hour) },
			"Insert, shorter":    func() { old.Insert(ctx, "", "k", "w", time.Hour) },
			"LookupOrInsert":     func() { old.LookupOrInsert(ctx, "", "k", "w", 90*time.Hour) },
			"none: Lookup":       func() { old.Lookup(ctx, "", "k", 0) },
			"none: All":          func() { dump(old) },
			"none: Claim":        func() { old.Claim(ctx, "", "k", "w", "", time.Hour) },
			"none: another swap": func() { old.CompareAndSwap(ctx, "", "k", "w", "x") },
		} {
			f()
			want := 1
			if strings.HasPrefix(name, "none") {
				want = 0
			}
			if n := pass(t, s, r); n != want {
				t.Errorf("%s: %d entries have changed", name, n)
			}
			_, left, _ := old.main.Peek("k")
			if _, got, _ := next.main.Peek("k"); got < left {
				t.Errorf("%s: %v are left, want %v", name, got, left)
			}
			advance(time.Second)
		}
	})
}

// TestReceiverServes: what the receiving process does itself applies.
func TestReceiverServes(t *testing.T) {
	type do = func(s *Store)
	ctx := t.Context()
	put := func(value string, lifetime time.Duration) do {
		return func(s *Store) { s.Put(ctx, "", "k", value, lifetime) }
	}
	remove := func(s *Store) { s.Remove(ctx, "", "k") }
	extend := func(s *Store) { s.Refresh(ctx, "", "k", time.Hour) }
	nothing := func(*Store) {}
	for _, tt := range []struct {
		name        string
		first       do // in old, and sent
		next, old   do // then
		want        string
		wantAtLeast time.Duration
	}{
		{"changed in old", put("a", time.Hour), nothing, put("b", time.Hour), "b", time.Hour},
		{"removed in old", put("a", time.Hour), nothing, remove, "", 0},
		{"new in old", nothing, nothing, put("a", time.Hour), "a", time.Hour},
		{"changed in both", put("a", time.Hour), put("n", time.Hour), put("b", 2*time.Hour), "n", time.Hour},
		{"removed in next, extended in old", put("a", time.Hour), remove, extend, "", 0},
		{"removed in next, changed in old", put("a", time.Hour), remove, put("b", time.Hour), "", 0},
		{"removed in old, changed in next", put("a", time.Hour), put("n", time.Hour), remove, "n", time.Hour},
		{"new in both", nothing, put("n", time.Hour), put("a", time.Hour), "n", time.Hour},
		{"equal in both", nothing, put("a", time.Hour), put("a", 2*time.Hour), "a", 2 * time.Hour},
		{"equal in both, less in old", nothing, put("a", 2*time.Hour), put("a", time.Hour), "a", 2 * time.Hour},
		{"extended in next, changed in old", put("a", time.Hour), extend, put("b", time.Hour), "b", time.Hour},
		{"extended in both", put("a", time.Hour), extend, extend, "a", 2 * time.Hour},
		{"expired in next, extended in old", put("a", time.Second), nothing, extend, "a", time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				old, next, s, r := stores(t, Options{})
				s.Add("", old, "")
				r.Add("", next, "")
				tt.first(old)
				pass(t, s, r)
				tt.next(next)
				tt.old(old)
				for range 2 { // repeats change nothing
					pass(t, s, r)
					value, left, _ := next.main.Peek("k")
					if value != tt.want || left < tt.wantAtLeast {
						t.Errorf("%q, %v left; want %q, %v", value, left, tt.want, tt.wantAtLeast)
					}
					old.Refresh(ctx, "", "k", 0)
				}
				checkInvariants(t, next.main)
			})
		})
	}
}

// TestReceiverBounds: entries of the other process push none out, and many of
// its own are forgotten in the safe direction.
func TestReceiverBounds(t *testing.T) {
	ctx := t.Context()
	old, next, s, r := stores(t, Options{})
	small := NewStore(Options{MaxEntries: 10, MaxTables: 2, MaxKeyBytes: 5, MaxValueBytes: 5})
	s.Add("small", old, "")
	s.Add("other", NewStore(Options{}), "")
	r.Add("small", small, "")
	small.Put(ctx, "", "mine", "v", time.Hour)
	for i := range 100 {
		old.Put(ctx, "", strconv.Itoa(i), "v", time.Hour)
		old.Put(ctx, "t"+strconv.Itoa(i), "k", "v", time.Hour)
	}
	old.Put(ctx, "", "too long", "v", time.Hour)
	old.Put(ctx, "", "long", "too long", time.Hour)
	pass(t, s, r)
	if _, _, ok := small.main.Peek("mine"); !ok || small.main.Len() != 10 || len(small.names()) != 3 || small.Stats().Evictions != 0 {
		t.Errorf("kept %t, %d entries, %d tables, %+v", ok, small.main.Len(), len(small.names()), small.Stats())
	}

	r2 := NewReceiver()
	defer r2.Close()
	r2.Add("small", next, "")
	r2.own = nil // as after too many
	next.Put(ctx, "", "1", "v", time.Second)
	s2 := new(Sender)
	s2.Add("small", old, "")
	defer s2.Close()
	pass(t, s2, r2)
	if _, left, _ := next.main.Peek("1"); next.main.Len() != 1 || left < time.Minute {
		t.Errorf("%d entries, %v left", next.main.Len(), left)
	}
}

func TestTooManyChanges(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	old, next, s, r := stores(t, Options{})
	s.Add("", old, "")
	r.Add("", next, "")
	for i := range maxChangedKeys {
		old.Put(ctx, "", strconv.Itoa(i), "v", time.Hour)
	}
	if n := pass(t, s, r); n != 2*maxChangedKeys { // entries, and changes
		t.Errorf("%d are sent", n)
	}
	for i := range maxChangedKeys + 1 {
		old.Put(ctx, "", strconv.Itoa(i), "w", time.Hour)
	}
	if _, err := s.Send(apply(r)); !errors.Is(err, ErrTooManyChanges) {
		t.Errorf("error %v", err)
	}
	broken := errors.New("broken pipe")
	s2 := new(Sender)
	defer s2.Close()
	s2.Add("", old, "")
	if _, err := s2.Send(func([]byte) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
}

// TestSendProfiles: clients of each kind of profile keep their servers, those
// whose binding is made or moved during the way, too.
func TestSendProfiles(t *testing.T) {
	kinds := append(inMemory[:2:2], struct {
		name string
		make func(tb testing.TB, timeout, maxAge time.Duration, maxEntries int) targeter
	}{"HTTPCookie", func(tb testing.TB, timeout, maxAge time.Duration, _ int) targeter {
		return made(NewHTTPCookie(HTTPCookieConfig{Timeout: timeout, MaxAge: maxAge}))(tb)
	}})
	for _, kind := range kinds {
		for _, maxAge := range []time.Duration{0, 2 * time.Hour} {
			t.Run(fmt.Sprint(kind.name, maxAge), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					old, next := targeted(t, kind.make(t, time.Hour, maxAge, 0), "a", "b"), targeted(t, kind.make(t, time.Hour, maxAge, 0), "a", "b")
					s, r := new(Sender), NewReceiver()
					defer s.Close()
					defer r.Close()
					for _, target := range []string{"a", "b"} {
						s.Add("service "+target, old, target)
						r.Add("service "+target, next, target)
					}
					first, second := newBrowser(t), newBrowser(t)
					visit := func(b *browser, target, server string) {
						_, h := serve(t, old, b.request(), target, server)
						b.jar.SetCookies(b.site, (&http.Response{Header: h}).Cookies())
					}
					visit(first, "a", "10.0.0.1:80")
					pass(t, s, r)
					visit(second, "b", "10.0.0.2:80")
					pass(t, s, r)
					advance(50 * time.Minute)
					if kind.name != "HTTPCookie" { // which has no state
						old.Find(first.request(), client1, "a")
						old.Find(second.request(), client1, "b")
						pass(t, s, r)
						advance(50 * time.Minute)
					}
					for target, b := range map[string]*browser{"a": first, "b": second} {
						want := map[string]string{"a": "10.0.0.1:80", "b": "10.0.0.2:80"}[target]
						if got, _, _ := next.Find(b.request(), client1, target); got != want {
							t.Errorf("in %s the client is on %q", target, got)
						}
					}
				})
			})
		}
	}
}

// TestSendOtherKinds: another kind of profile, or one that finds clients by
// something else, takes nothing over; other bounds of age apply.
func TestSendOtherKinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clientIP := func(c ClientIPConfig) *ClientIP { return made(NewClientIP(c))(t) }
		first := clientIP(ClientIPConfig{MaxAge: time.Hour})
		first.Claim(request("/"), client1, "web", "10.0.0.1:80", "")
		store := NewStore(Options{})
		inStore := clientIP(ClientIPConfig{Sessions: store})
		for name, tt := range map[string]struct {
			old, next interface {
				Find(r *http.Request, client netip.Addr, target string) (string, time.Duration, error)
			}
			want string
		}{
			"equal":         {first, clientIP(ClientIPConfig{MaxAge: time.Hour}), "10.0.0.1:80"},
			"no age":        {first, clientIP(ClientIPConfig{}), "10.0.0.1:80"},
			"less age":      {first, clientIP(ClientIPConfig{MaxAge: time.Minute}), "10.0.0.1:80"},
			"other masks":   {first, clientIP(ClientIPConfig{Mask4: 24}), ""},
			"another kind":  {first, made(NewAppCookie(AppCookieConfig{Name: "SID"}))(t), ""},
			"in a store":    {first, inStore, ""},
			"not in memory": {first, clientIP(ClientIPConfig{Sessions: struct{ *Store }{store}}), ""},
		} {
			s, r := new(Sender), NewReceiver()
			s.Add("p", tt.old, "web")
			r.Add("p", tt.next, "web")
			pass(t, s, r)
			if got, _, _ := tt.next.Find(request("/"), client1, "web"); got != tt.want {
				t.Errorf("%s: the client is on %q", name, got)
			}
			s.Close()
			r.Close()
		}
		inStore.Claim(request("/"), client1, "web", "10.0.0.3:80", "")
		next := NewStore(Options{})
		after := clientIP(ClientIPConfig{Sessions: next})
		s, r := new(Sender), NewReceiver()
		defer s.Close()
		defer r.Close()
		s.Add("tables", store, "")
		s.Add("p", inStore, "web")
		r.Add("tables", next, "")
		r.Add("p", after, "web")
		if n := pass(t, s, r); n != 1 {
			t.Errorf("%d entries are sent", n)
		}
		if got, _, _ := after.Find(request("/"), client1, "web"); got != "10.0.0.3:80" {
			t.Errorf("the client in a store is on %q", got)
		}
	})
}

// TestSendUnderLoad has writers all the while, and an update that moves clients
// to another table; in the end both processes have the same.
func TestSendUnderLoad(t *testing.T) {
	ctx := t.Context()
	old, next, s, r := stores(t, Options{})
	p, q := made(NewClientIP(ClientIPConfig{}))(t), made(NewClientIP(ClientIPConfig{}))(t)
	s.Add("store", old, "")
	r.Add("store", next, "")
	s.Add("profile", p, "web")
	r.Add("profile", q, "web")
	rounds := 20_000
	if testing.Short() {
		rounds = 2_000
	}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(g)))
			for range rounds {
				table, key := "t"+strconv.Itoa(rnd.IntN(3)), strconv.Itoa(rnd.IntN(500))
				client := client1
				for range rnd.IntN(50) {
					client = client.Next()
				}
				switch rnd.IntN(6) {
				case 0:
					old.Remove(ctx, table, key)
				case 1:
					old.Claim(ctx, table, key, strconv.Itoa(rnd.IntN(3)), strconv.Itoa(rnd.IntN(3)), time.Hour)
				case 2:
					old.Lookup(ctx, table, key, time.Minute)
				case 3:
					p.Claim(nil, client, "web", strconv.Itoa(rnd.IntN(3)), strconv.Itoa(rnd.IntN(3)))
				default:
					old.Put(ctx, table, key, strconv.Itoa(rnd.IntN(100)), time.Hour)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	for over := false; !over; {
		select {
		case <-done:
			over = true
		case <-s.Changed():
		}
		pass(t, s, r)
		if over {
			break
		}
		p.clients.target("web").rebuild(tableBounds{maxEntries: 1000 + rand.IntN(2)}, p.clients.make)
	}
	pass(t, s, r)
	values := func(store *Store) map[string]string {
		all := map[string]string{}
		for table, entries := range dump(store) {
			for key, e := range entries {
				all[table+" "+key] = e.Value
			}
		}
		return all
	}
	if diff := cmp.Diff(values(old), values(next)); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	clients := func(p *ClientIP) map[string]string {
		all := map[string]string{}
		for key, e := range p.clients.target("web").current.Load().table.All() {
			all[key.String()] = e.Value
		}
		return all
	}
	if diff := cmp.Diff(clients(p), clients(q)); diff != "" || len(clients(q)) == 0 {
		t.Errorf("clients (-want +got):\n%s", diff)
	}
	if len(r.own) > 0 {
		t.Errorf("%d keys are said to be written here", len(r.own))
	}
}

// TestSenderWait: a call that changes an entry returns when the other process
// has it, or after the limit; one that only extends a lifetime does not wait.
func TestSenderWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		old, next, s, r := stores(t, Options{})
		s.Add("", old, "")
		r.Add("", next, "")
		pass(t, s, r)
		takes := func(f func()) time.Duration {
			begun := time.Now()
			f()
			return time.Since(begun)
		}
		put := func() { old.Put(ctx, "", "k", "v", time.Hour) }
		if d := takes(put); d != 0 {
			t.Errorf("without Wait: %v", d)
		}
		s.Wait(time.Second)
		if d := takes(put); d != time.Second {
			t.Errorf("while nobody sends: %v", d)
		}
		if d := takes(func() { old.Refresh(ctx, "", "k", time.Minute) }); d != 0 {
			t.Errorf("an extension: %v", d)
		}
		pass(t, s, r)
		<-s.Changed() // what is left of before
		go func() {
			<-s.Changed()
			time.Sleep(time.Second / 4)
			if value, _, _ := next.main.Peek("other"); value != "" {
				t.Error("it was sent before")
			}
			pass(t, s, r)
		}()
		d := takes(func() { old.Put(ctx, "", "other", "v", time.Hour) })
		if value, _, _ := next.main.Peek("other"); value != "v" || d != time.Second/4 {
			t.Errorf("after %v the other has %q", d, value)
		}
		for _, tt := range []struct {
			name string
			end  func()
		}{{"Wait", func() { s.Wait(0) }}, {"Close", s.Close}} { // which is the last
			s.Wait(time.Second)
			go func() {
				time.Sleep(time.Second / 4)
				tt.end()
			}()
			if d := takes(put); d != time.Second/4 {
				t.Errorf("until %s ends it: %v", tt.name, d)
			}
			if d := takes(put); d != 0 {
				t.Errorf("after %s: %v", tt.name, d)
			}
		}
	})
}

// TestSenderWaitTogether: sessions that wait for the other process do so at the
// same time, with MaxAge as well: each waited for those before it.
func TestSenderWaitTogether(t *testing.T) {
	for _, kind := range inMemory {
		for _, maxAge := range []time.Duration{0, time.Hour} {
			t.Run(fmt.Sprint(kind.name, " ", maxAge), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					p := targeted(t, kind.make(t, time.Minute, maxAge, 0), "web").(interface {
						Claim(r *http.Request, client netip.Addr, target, server, instead string) (string, error)
					})
					s := new(Sender)
					s.Add("p", p, "web")
					s.Wait(time.Second)
					begun := time.Now()
					var group sync.WaitGroup
					for n := range 20 {
						r, client := request("/", "Cookie", fmt.Sprint("SID=s", n)), netip.AddrFrom4([4]byte{10, 9, 9, byte(n)})
						group.Go(func() {
							if got, err := p.Claim(r, client, "web", "10.0.0.1:80", ""); err != nil || got != "10.0.0.1:80" {
								t.Errorf("%s, %v", got, err)
							}
						})
					}
					group.Wait()
					if d := time.Since(begun); d != time.Second {
						t.Errorf("20 sessions have waited for %v", d)
					}
					s.Close()
				})
			})
		}
	}
}

// TestWatchEnds: what is closed costs nothing any more.
func TestWatchEnds(t *testing.T) {
	store := NewStore(Options{})
	s := new(Sender)
	s.Add("", store, "")
	s.Close()
	store.Put(t.Context(), "new", "k", "v", time.Hour)
	if store.main.onChange.Load() != nil || store.table("new").onChange.Load() != nil {
		t.Error("the store still tells its changes")
	}
	if _, err := s.Send(nil); err == nil {
		t.Error("a closed Sender sends")
	}
}

func FuzzReceiver(f *testing.F) {
	ctx := f.Context()
	old := NewStore(Options{})
	old.Put(ctx, "", "k", "v", time.Hour)
	old.PutIdle(ctx, "t", "k", "v", time.Hour, 2*time.Hour)
	s := new(Sender)
	s.Add("store", old, "")
	collect := func(message []byte) error {
		f.Add(bytes.Clone(message))
		return nil
	}
	if _, err := s.Send(collect); err != nil { // entries of two tables
		f.Fatal(err)
	}
	old.Remove(ctx, "t", "k")
	if _, err := s.Send(collect); err != nil { // one that was removed
		f.Fatal(err)
	}
	s.Close()
	f.Add([]byte{recordEntry, 0})                   // before any table
	f.Add([]byte{recordTable, 0xff, 0xff, 0xff, 1}) // more names than there are bytes
	f.Fuzz(func(t *testing.T, message []byte) {
		store := NewStore(Options{})
		r := NewReceiver()
		defer r.Close()
		r.Add("store", store, "")
		r.Add("profile", made(NewClientIP(ClientIPConfig{}))(t), "web")
		_ = r.Apply(message)
		for _, table := range store.names() {
			checkInvariants(t, store.table(table))
		}
	})
}
