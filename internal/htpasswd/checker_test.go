package htpasswd

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/bcrypt"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func hash(t testing.TB, password string, cost int) string {
	t.Helper()
	h, err := bcrypt.GenerateFromPassword([]byte(password[:min(len(password), 72)]), cost)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Replace(string(h), "$2a$", "$2y$", 1)
}

func load(t testing.TB, users ...string) *Checker {
	t.Helper()
	c := New()
	if err := c.Load([]byte(strings.Join(users, "\n"))); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCheck(t *testing.T) {
	long := strings.Repeat("x", 80)
	c := load(t, "ann:"+hash(t, "pass", 4), "bob:"+hash(t, long, 5), "zoë:"+hash(t, "pâss", 4), "empty:"+hash(t, "", 4))
	for _, x := range []struct {
		name, password string
		want           bool
	}{
		{"ann", "pass", true}, {"ann", "Pass", false}, {"ann", "", false}, {"ann", "pass ", false}, {"Ann", "pass", false},
		{"bob", long, true}, {"bob", "pass", false}, {"zoë", "pâss", true}, {"empty", "", true}, {"empty", "x", false},
		{"nobody", "pass", false}, {"", "pass", false}, {"", "", false}, {"ann:", "pass", false},
		{"ann", "pass\x00pass", false}, // which bcrypt cannot tell from "pass"
		{"ann", "pass\x00", false}, {"ann\x00", "pass", false}, {"ann", "p\xffss", false},
		{"ann", strings.Repeat("x", MaxPassword+1), false}, {strings.Repeat("x", 256), "pass", false},
		{"an", "npass", false}, // the same bytes, otherwise cut
	} {
		for range 2 {
			if ok, err := c.Check(t.Context(), x.name, x.password); ok != x.want || err != nil {
				t.Errorf("%.20q, %.20q: %v, %v", x.name, x.password, ok, err)
			}
		}
	}
	if ok, _ := New().Check(t.Context(), "ann", "pass"); ok {
		t.Error("let in before there were users")
	}
}

func TestParseFaults(t *testing.T) {
	good := hash(t, "x", 4)
	secret := "s3cret"
	for name, c := range map[string]struct{ content, want string }{
		"empty":      {"", "no users"},
		"comments":   {"# ann\n\n  \n", "no users"},
		"no colon":   {secret, "line 1: no colon behind the name"},
		"no name":    {":" + good, "line 1: the name is empty, longer than 255 bytes, or not plain text"},
		"control":    {"a\x01b:" + good, "line 1: the name is empty, longer than 255 bytes, or not plain text"},
		"plain":      {"ann:" + secret, `line 1: user "ann": a plain password or a DES hash is not supported; make a bcrypt hash, with htpasswd -B`},
		"nothing":    {"ann:", `line 1: user "ann": an empty password is not supported; make a bcrypt hash, with htpasswd -B`},
		"apr1":       {"ann:$apr1$s3cretaa$ZjTqBB3f9IF9gdYAGlMrs2fuINjHsz.", `line 1: user "ann": an MD5 hash is not supported; make a bcrypt hash, with htpasswd -B`},
		"SHA-1":      {"ann:{SHA}s3cretGgTuGxWUxOXTGlnGUlGTU=", `line 1: user "ann": a SHA-1 hash is not supported; make a bcrypt hash, with htpasswd -B`},
		"SHA-256":    {"ann:$5$s3cret$x", `line 1: user "ann": a SHA-256 hash is not supported; make a bcrypt hash, with htpasswd -B`},
		"SHA-512":    {"ann:$6$s3cret$x", `line 1: user "ann": a SHA-512 hash is not supported; make a bcrypt hash, with htpasswd -B`},
		"argon2":     {"ann:$argon2id$s3cret", `line 1: user "ann": this kind of hash is not supported; make a bcrypt hash, with htpasswd -B`},
		"2x":         {"ann:" + strings.Replace(good, "2y", "2x", 1), `line 1: user "ann": this kind of bcrypt hash is not supported; make a bcrypt hash, with htpasswd -B`},
		"cut":        {"ann:" + good[:59], `line 1: user "ann": this kind of bcrypt hash is not supported; make a bcrypt hash, with htpasswd -B`},
		"third part": {"ann:" + good + ":Ann", `line 1: user "ann": this kind of bcrypt hash is not supported; make a bcrypt hash, with htpasswd -B`},
		"odd byte":   {"ann:" + good[:58] + "é", `line 1: user "ann": this kind of bcrypt hash is not supported; make a bcrypt hash, with htpasswd -B`},
		"high cost":  {"ann:" + strings.Replace(good, "$04$", "$31$", 1), `line 1: user "ann": the cost 31 is not between 4 and 14; see htpasswd -C`},
		"low cost":   {"ann:" + strings.Replace(good, "$04$", "$03$", 1), `line 1: user "ann": the cost 3 is not between 4 and 14; see htpasswd -C`},
		"twice":      {"ann:" + good + "\n\nann:" + good, `line 3: user "ann" is already in line 1`},
		"all faults": {"a:x\nann:" + good + "\nb", "line 1: user \"a\": a plain password or a DES hash is not supported; make a bcrypt hash, with htpasswd -B\nline 3: no colon behind the name"},
		"too long":   {strings.Repeat("#", MaxBytes+1), "more than 16777216 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			k := load(t, "old:"+good)
			err := k.Load([]byte(c.content))
			if err == nil || err.Error() != c.want || strings.Contains(err.Error(), secret) {
				t.Errorf("%v\nwant %s", err, c.want)
			}
			if ok, _ := k.Check(t.Context(), "old", "x"); !ok {
				t.Error("the old users are gone")
			}
		})
	}
	many := strings.Repeat("x\n", 25)
	if err := New().Load([]byte(many)); err == nil || !strings.HasSuffix(err.Error(), "line 20: no colon behind the name\nand 5 more faults") {
		t.Error(err)
	}
	if err := New().Load([]byte("\ufeffann:" + good + "\r\n")); err != nil {
		t.Errorf("byte order mark and CR LF: %v", err)
	}
}

// counted counts comparisons, by the cost of their hashes, and how many there
// are at a time.
type counted struct {
	*Checker
	mu        sync.Mutex
	costs     map[string]int
	now, most atomic.Int64
	all       atomic.Int64
}

func count(c *Checker, takes time.Duration) *counted {
	k := &counted{Checker: c, costs: map[string]int{}}
	c.memory.Load().compare = func(hash, password []byte) error {
		k.all.Add(1)
		k.mu.Lock()
		k.costs[string(hash[4:6])]++
		k.mu.Unlock()
		if n := k.now.Add(1); n > k.most.Load() {
			k.most.Store(n)
		}
		defer k.now.Add(-1)
		if takes > 0 {
			<-time.After(takes)
		}
		return bcrypt.CompareHashAndPassword(hash, password)
	}
	return k
}

// TestUnknownUsers: nobody can tell from the time which users exist. Each name
// costs one comparison, of the costs that the users' hashes have, and each
// name always the same.
func TestUnknownUsers(t *testing.T) {
	var lines []string
	for i := range 8 {
		lines = append(lines, fmt.Sprintf("u%d:%s", i, hash(t, "x", 4+i/4))) // half of them 5
	}
	c := count(load(t, lines...), 0)
	for i := range 200 {
		if ok, err := c.Check(t.Context(), fmt.Sprintf("unknown%d", i), "x"); ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	if c.costs["04"] < 50 || c.costs["05"] < 50 || c.costs["04"]+c.costs["05"] != 200 {
		t.Errorf("comparisons by cost: %v", c.costs)
	}
	users := c.users.Load()
	first, _ := users.find("unknown")
	if err := c.Load([]byte(strings.Join(lines, "\n"))); err != nil {
		t.Fatal(err)
	}
	if again, _ := c.users.Load().find("unknown"); again != first {
		t.Error("a name costs something else after the file was read again")
	}
}

// TestRemembered: a right password is compared once, a wrong one each time, and
// one that the file does not have any more is not right.
func TestRemembered(t *testing.T) {
	old := "ann:" + hash(t, "pass", 4)
	c := count(load(t, old), 0)
	check := func(password string, want bool, comparisons int64) {
		t.Helper()
		c.all.Store(0)
		ok, err := c.Check(t.Context(), "ann", password)
		if ok != want || err != nil || c.all.Load() != comparisons {
			t.Errorf("%v, %v with %d comparisons", ok, err, c.all.Load())
		}
	}
	check("pass", true, 1)
	check("pass", true, 0)
	check("wrong", false, 1)
	check("wrong", false, 1)
	if err := c.Load([]byte(old + "\nbob:" + hash(t, "pass", 4))); err != nil {
		t.Fatal(err)
	}
	check("pass", true, 0) // others may change
	if err := c.Load([]byte("ann:" + hash(t, "new", 4))); err != nil {
		t.Fatal(err)
	}
	check("pass", false, 1)
	check("new", true, 1)
	check("new", true, 0)
	if err := c.Load([]byte("bob:" + hash(t, "new", 4))); err != nil {
		t.Fatal(err)
	}
	check("new", false, 1)
	if n := testing.AllocsPerRun(100, func() { _, _ = c.Check(context.Background(), "bob", "new") }); n != 0 {
		t.Errorf("%v allocations for what is remembered", n)
	}
}

// A checker that adopts another remembers its passwords, but for users who have
// another hash or are gone, and both together take half of the processors.
func TestAdopt(t *testing.T) {
	ann, bob := "ann:"+hash(t, "pass", 4), "bob:"+hash(t, "word", 4)
	old := count(load(t, ann, bob, "eve:"+hash(t, "x", 4)), 0)
	for name, password := range map[string]string{"ann": "pass", "bob": "word", "eve": "x"} {
		if ok, err := old.Check(t.Context(), name, password); !ok || err != nil {
			t.Fatal(name, ok, err)
		}
	}
	c := load(t, ann, "bob:"+hash(t, "new", 4))
	c.Adopt(old.Checker)
	for _, x := range []struct {
		name, password string
		want           bool
		comparisons    int64
	}{
		{"ann", "pass", true, 3}, {"bob", "word", false, 4}, {"bob", "new", true, 5}, {"bob", "new", true, 5}, {"eve", "x", false, 6},
		{"ann", "pass", true, 6},
	} {
		if ok, err := c.Check(t.Context(), x.name, x.password); ok != x.want || err != nil || old.all.Load() != x.comparisons {
			t.Errorf("%s, %s: %v, %v, after %d comparisons", x.name, x.password, ok, err, old.all.Load())
		}
	}
	if c.memory.Load() != old.memory.Load() {
		t.Error("two memories, with turns of their own")
	}
}

// TestBounded: however many right passwords there are, the memory is bounded.
func TestBounded(t *testing.T) {
	c := load(t, "ann:"+hash(t, "pass", 4))
	c.memory.Load().compare = func([]byte, []byte) error { return nil }
	for i := range 5000 {
		if ok, _ := c.Check(t.Context(), "ann", fmt.Sprint(i)); !ok {
			t.Fatal(i)
		}
	}
	m := c.memory.Load()
	if n := m.remembered.Len(); n != maxRemembered {
		t.Errorf("%d", n)
	}
	if len(m.running) != 0 || m.waiting.Load() != 0 {
		t.Errorf("%d running, %d waiting", len(m.running), m.waiting.Load())
	}
}

// TestFlood: a flood of wrong passwords computes on half of the processors at
// most, what is over is told so at once, and whoever is known gets in
// meanwhile. In virtual time, in which a comparison takes a second.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := count(load(t, "ann:"+hash(t, "pass", 4)), time.Second)
		if ok, err := c.Check(t.Context(), "ann", "pass"); !ok || err != nil {
			t.Fatal(ok, err)
		}
		var busy, wrong atomic.Int64
		var wg sync.WaitGroup
		for i := range 1000 {
			wg.Go(func() {
				switch ok, err := c.Check(t.Context(), "ann", fmt.Sprint("wrong", i)); {
				case ok:
					t.Error("let in")
				case errors.Is(err, ErrBusy):
					busy.Add(1)
				case err == nil:
					wrong.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		begin := time.Now()
		if ok, err := c.Check(t.Context(), "ann", "pass"); !ok || err != nil || time.Since(begin) > 0 {
			t.Errorf("a known user meanwhile: %v, %v after %v", ok, err, time.Since(begin))
		}
		turns := int64(max(1, runtime.GOMAXPROCS(0)/2))
		if n := busy.Load(); n < 1000-maxWaiting-turns {
			t.Errorf("%d were refused at once", n)
		}
		wg.Wait()
		if c.most.Load() > turns || wrong.Load() == 0 || wrong.Load() > turns*11 {
			t.Errorf("%d at a time, %d compared", c.most.Load(), wrong.Load())
		}
		if m := c.memory.Load(); len(m.running) != 0 || m.waiting.Load() != 0 || len(m.turns) != 0 {
			t.Errorf("%d running, %d waiting, %d turns", len(m.running), m.waiting.Load(), len(m.turns))
		}
	})
}

// TestTogether: equal requests, such as those of a browser that opens a page,
// wait for one comparison; when the client that it is for leaves, another goes
// on.
func TestTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := count(load(t, "ann:"+hash(t, "pass", 4)), time.Second)
		turns := c.memory.Load().turns
		for range cap(turns) {
			turns <- struct{}{} // all turns are taken
		}
		leaving, leave := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if ok, err := c.Check(leaving, "ann", "pass"); ok || !errors.Is(err, context.Canceled) {
				t.Errorf("the one that left: %v, %v", ok, err)
			}
		})
		synctest.Wait()
		for range 50 {
			wg.Go(func() {
				if ok, err := c.Check(t.Context(), "ann", "pass"); !ok || err != nil {
					t.Errorf("%v, %v", ok, err)
				}
			})
		}
		synctest.Wait()
		leave()
		synctest.Wait()
		for range cap(turns) {
			<-turns
		}
		wg.Wait()
		if n := c.all.Load(); n != 1 {
			t.Errorf("%d comparisons", n)
		}
	})
}

// TestTogetherWithOldFile: a user whose password changed while the old one was
// being compared was judged by the old hash: the old password opened, the new
// one did not.
func TestTogetherWithOldFile(t *testing.T) {
	for _, x := range []struct {
		password string
		before   bool
	}{{"old", true}, {"new", false}} {
		t.Run(x.password, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := count(load(t, "ann:"+hash(t, "old", 4)), time.Second)
				check := func(want bool) {
					if ok, err := c.Check(t.Context(), "ann", x.password); ok != want || err != nil {
						t.Errorf("%v, %v, want %v", ok, err, want)
					}
				}
				var wg sync.WaitGroup
				wg.Go(func() { check(x.before) })
				synctest.Wait()
				if err := c.Load([]byte("ann:" + hash(t, "new", 4))); err != nil {
					t.Fatal(err)
				}
				wg.Go(func() { check(!x.before) })
				wg.Wait()
				check(!x.before)
			})
		})
	}
}

// FuzzParse: no file breaks the parser, and what it accepts can be checked
// against.
func FuzzParse(f *testing.F) {
	good := hash(f, "x", 4)
	f.Add([]byte("ann:" + good))                   // good
	f.Add([]byte("ann:" + good[:59] + "\xff"))     // not of the alphabet
	f.Add([]byte("ann:$2y$99$" + good[7:]))        // cost
	f.Add([]byte("\ufeff#\r\n\r\nann:" + good))    // what editors add
	f.Add([]byte("ann:$2y$\nann:$apr1$\n::\n:\n")) // cut
	f.Fuzz(func(t *testing.T, content []byte) {
		u, err := parse(content)
		if err != nil {
			return
		}
		for _, h := range u.list {
			if cost, err := bcrypt.Cost([]byte(h)); err != nil || cost > maxCost {
				t.Fatalf("%q: cost %d, %v", h, cost, err)
			}
		}
		u.find("nobody")
	})
}

// BenchmarkCheck: credentials that are remembered.
func BenchmarkCheck(b *testing.B) {
	c := load(b, "ann:"+hash(b, "pass", 4))
	b.ReportAllocs()
	for b.Loop() {
		if ok, _ := c.Check(context.Background(), "ann", "pass"); !ok {
			b.Fatal("refused")
		}
	}
}

// TestVectors checks what htpasswd of Apache 2.4 has written, with -B.
func TestVectors(t *testing.T) {
	c := load(t, "ann:$2y$04$xqeLw8BGEwYfUIvA4Pezj.RNSRAOBvhfHtghmz7H/sGBP1v00.Biy",
		"long:$2y$05$IivasavX/iwx0P1ojUOSE.XcE8ytqQDLWFGBTfpSN930O0hfgUcu2")
	for name, password := range map[string]string{"ann": "canary-1", "long": strings.Repeat("x", 80)} {
		if ok, err := c.Check(t.Context(), name, password); !ok || err != nil {
			t.Errorf("%s: %v, %v", name, ok, err)
		}
		if ok, _ := c.Check(t.Context(), name, "y"+password[1:]); ok {
			t.Errorf("%s: another password", name)
		}
	}
}
