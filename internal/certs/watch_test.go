package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet/internal/filewatch"
	"github.com/limpetlb/limpet/internal/testcerts"
	"github.com/limpetlb/limpet/internal/testfiles"
)

// A scene is a store whose files are looked at, in virtual time.
type scene struct {
	*testing.T
	dir   string
	store *Store
	cfg   Config
	log   *slog.Logger
	lines bytes.Buffer
}

// watching makes files, by a function that knows the virtual time, and a store
// of them.
func watching(t *testing.T, files func() map[string]string, configure func(dir string) Config, step func(s *scene)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &scene{T: t, dir: testfiles.Write(t, files())}
		s.cfg = configure(s.dir)
		s.cfg.Watch = true
		s.store = NewStore(loaded(t, s.cfg))
		s.log = logTo(&s.lines)
		step(s)
	})
}

// logTo returns a logger of lines without times.
func logTo(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
}

// put replaces files, one after another, each by a rename.
func (s *scene) put(files map[string]string, order ...string) {
	s.Helper()
	for _, name := range order {
		next := filepath.Join(s.dir, ".next")
		if err := os.WriteFile(next, []byte(files[name]), 0o600); err != nil {
			s.Fatal(err)
		}
		if err := os.Rename(next, filepath.Join(s.dir, name)); err != nil {
			s.Fatal(err)
		}
	}
}

func (s *scene) remove(names ...string) {
	s.Helper()
	for _, name := range names {
		if err := os.Remove(filepath.Join(s.dir, name)); err != nil {
			s.Fatal(err)
		}
	}
}

// shows checks which certificate clients get for a name; nil for none.
func (s *scene) shows(name string, want *testcerts.Cert) {
	s.Helper()
	state, err, _ := shake(s.T, s.store.Server(never), &tls.Config{ServerName: name, InsecureSkipVerify: true, Time: time.Now})
	switch {
	case want == nil && err == nil:
		s.Errorf("%s: there is a certificate", name)
	case want != nil && err != nil:
		s.Errorf("%s: %v", name, err)
	case want != nil && !state.PeerCertificates[0].Equal(want.Leaf):
		s.Errorf("%s: another certificate", name)
	}
}

// pass lets time pass, with looks at the files, and returns what was logged.
// Days have fewer looks.
func (s *scene) pass(d time.Duration) []string {
	step := filewatch.Tick
	if d > 10*time.Minute {
		step = time.Minute
	}
	for passed := time.Duration(0); passed < d; passed += step {
		<-time.After(min(step, d-passed))
		s.store.Look(s.log)
	}
	text := strings.TrimSpace(strings.ReplaceAll(s.lines.String(), s.dir+"/", ""))
	s.lines.Reset()
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

// after lets time pass, and compares what was logged meanwhile.
func (s *scene) after(d time.Duration, want ...string) {
	s.Helper()
	if diff := cmp.Diff(want, s.pass(d)); diff != "" {
		s.Errorf("after %v (-want +got):\n%s", d, diff)
	}
}

// inForce is how soon what a file has must be in force.
const inForce = 2 * time.Second

// A pair that is replaced is in force within two seconds, whatever the order of
// the files; what does not fit, or is not there, leaves the old one, is
// reported after a while, and its end too.
func TestWatchPair(t *testing.T) {
	files := map[string]string{}
	var a *testcerts.Authority
	var first *testcerts.Cert
	watching(t, func() map[string]string {
		a = testcerts.NewAuthority(t, "test")
		first = a.Issue(t, nil, "a.example.com")
		put(t, files, "a", first)
		return files
	}, func(dir string) Config { return config(dir, "a") }, func(s *scene) {
		s.after(time.Minute)
		s.shows("a.example.com", first)
		renew := func() *testcerts.Cert {
			c := a.Issue(t, func(c *x509.Certificate) {
				c.NotBefore, c.NotAfter = time.Unix(0, 0), time.Date(2050, 1, 1, 0, 0, 0, 0, time.UTC)
			}, "a.example.com")
			put(t, files, "a", c)
			return c
		}
		const changed = `level=INFO msg="certificate changed" certificate=a.crt names=[a.example.com] expires=2050-01-01T00:00:00.000Z`
		second := renew()
		s.put(files, "a.crt", "a.key")
		s.after(inForce, changed)
		s.shows("a.example.com", second)
		third := renew()
		s.put(files, "a.key", "a.crt")
		s.after(inForce, changed)
		s.shows("a.example.com", third)

		// One after another, within the time that is forgiven.
		fourth := renew()
		s.put(files, "a.crt")
		s.after(8 * time.Second)
		s.shows("a.example.com", third)
		s.put(files, "a.key")
		s.after(inForce, changed)
		s.shows("a.example.com", fourth)

		// And not within it.
		fifth := renew()
		s.put(files, "a.key")
		s.after(9 * time.Second)
		s.after(2*time.Second, `level=WARN msg="TLS files not reloaded, those from before stay in force" error="certificate a.crt and key a.key: tls: private key does not match public key"`)
		s.after(time.Hour)
		s.shows("a.example.com", fourth)
		s.put(files, "a.crt")
		s.after(inForce, `level=INFO msg="TLS files can be read again" after="certificate a.crt and key a.key: tls: private key does not match public key"`, changed)
		s.shows("a.example.com", fifth)

		// Missing, rubbish, and back again.
		s.remove("a.crt")
		s.after(9 * time.Second)
		s.after(time.Minute, `level=WARN msg="TLS files not reloaded, those from before stay in force" error="stat a.crt: no such file or directory"`)
		s.shows("a.example.com", fifth)
		s.put(map[string]string{"a.crt": "rubbish"}, "a.crt")
		s.after(9 * time.Second)
		s.after(time.Minute, `level=WARN msg="TLS files not reloaded, those from before stay in force" error="certificate a.crt and key a.key: tls: failed to find any PEM data in certificate input"`)
		s.shows("a.example.com", fifth)
		s.put(files, "a.crt") // the same as before
		s.after(inForce, `level=INFO msg="TLS files can be read again" after="certificate a.crt and key a.key: tls: failed to find any PEM data in certificate input"`)
		s.put(files, "a.crt", "a.key")
		s.after(time.Minute)
		s.shows("a.example.com", fifth)

		// An update from a file that was read before keeps what was read since.
		old := loaded(t, s.cfg)
		sixth := renew()
		s.put(files, "a.crt", "a.key")
		s.after(inForce, changed)
		s.store.Use(old)
		s.shows("a.example.com", sixth)
		s.after(time.Minute)
		s.shows("a.example.com", sixth)
	})
}

// A file may have both, and may be exchanged with a directory of links, as
// Kubernetes does it.
func TestWatchExchangedLink(t *testing.T) {
	var a *testcerts.Authority
	var first, second *testcerts.Cert
	watching(t, func() map[string]string {
		a = testcerts.NewAuthority(t, "test")
		first, second = a.Issue(t, nil, "a.example.com"), a.Issue(t, nil, "a.example.com")
		return map[string]string{"..1/tls.pem": first.PEM() + first.KeyPEM(t), "..2/tls.pem": second.PEM() + second.KeyPEM(t)}
	}, func(dir string) Config {
		for link, to := range map[string]string{"..data": "..1", "tls.pem": "..data/tls.pem"} {
			if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
				t.Fatal(err)
			}
		}
		return Config{Certificates: []Pair{{Certificate: filepath.Join(dir, "tls.pem")}}}
	}, func(s *scene) {
		s.after(time.Minute)
		s.shows("a.example.com", first)
		for _, err := range []error{os.Symlink("..2", filepath.Join(s.dir, "..next")), os.Rename(filepath.Join(s.dir, "..next"), filepath.Join(s.dir, "..data"))} {
			if err != nil {
				t.Fatal(err)
			}
		}
		s.after(inForce, `level=INFO msg="certificate changed" certificate=tls.pem names=[a.example.com] expires=`+second.Leaf.NotAfter.UTC().Format("2006-01-02T15:04:05.000Z"))
		s.shows("a.example.com", second)
	})
}

// Certificates come into a directory and leave it.
func TestWatchDirectory(t *testing.T) {
	var a *testcerts.Authority
	certs, files := map[string]*testcerts.Cert{}, map[string]string{}
	issue := func(name string) {
		certs[name] = a.Issue(t, func(c *x509.Certificate) { c.NotAfter = time.Date(2050, 1, 1, 0, 0, 0, 0, time.UTC) }, name+".example.com")
		put(t, files, name, certs[name])
	}
	watching(t, func() map[string]string {
		a = testcerts.NewAuthority(t, "test")
		issue("a")
		return files
	}, func(dir string) Config { return Config{Directory: dir, StrictSNI: true} }, func(s *scene) {
		said := func(what, file, name string) string {
			return `level=INFO msg="certificate ` + what + `" certificate=` + file + ` names=[` + name + `.example.com] expires=2050-01-01T00:00:00.000Z`
		}
		s.after(time.Minute)
		issue("b")
		s.put(files, "b.crt")
		s.after(time.Minute)
		s.put(files, "b.key")
		s.after(inForce, said("added", "b.crt", "b"))
		s.shows("a.example.com", certs["a"])
		s.shows("b.example.com", certs["b"])

		issue("c")
		s.put(map[string]string{"c.pem": files["c.key"] + files["c.crt"]}, "c.pem")
		s.put(map[string]string{"d.pem": "rubbish"}, "d.pem")
		issue("b")
		s.put(files, "b.key", "b.crt")
		s.after(inForce, said("changed", "b.crt", "b"), said("added", "c.pem", "c"))
		s.shows("b.example.com", certs["b"])
		s.shows("c.example.com", certs["c"])
		s.after(time.Minute, `level=WARN msg="TLS files not reloaded, those from before stay in force" error="d.pem: no private key in it, and no key in another file"`)
		s.remove("d.pem")
		s.after(time.Minute)

		s.remove("a.crt", "a.key", "c.pem")
		s.after(inForce, `level=INFO msg="certificate removed" certificate=a.crt`, `level=INFO msg="certificate removed" certificate=c.pem`)
		s.shows("a.example.com", nil)
		s.shows("c.example.com", nil)

		// A directory that cannot be read takes nothing away, nor does a moment
		// without a file.
		aside := s.dir + ".aside"
		if err := os.Rename(s.dir, aside); err != nil {
			t.Fatal(err)
		}
		s.after(time.Minute, `level=WARN msg="TLS files not reloaded, those from before stay in force" error="open `+s.dir+`: no such file or directory"`,
			`level=WARN msg="TLS files not reloaded, those from before stay in force" error="stat b.crt: no such file or directory"`)
		s.shows("b.example.com", certs["b"])
		if err := os.Rename(aside, s.dir); err != nil {
			t.Fatal(err)
		}
		s.after(inForce, `level=INFO msg="TLS files can be read again" after="open `+s.dir+`: no such file or directory"`,
			`level=INFO msg="TLS files can be read again" after="stat b.crt: no such file or directory"`)
		s.remove("b.key")
		s.after(300 * time.Millisecond)
		s.put(files, "b.key")
		s.after(time.Minute)
		s.shows("b.example.com", certs["b"])
	})
}

// Authorities and revocation lists are watched as certificates are.
func TestWatchClients(t *testing.T) {
	t.Parallel()
	var servers, ours, other *testcerts.Authority
	var good, foreign *testcerts.Cert
	watching(t, func() map[string]string {
		servers, ours, other = testcerts.NewAuthority(t, "servers"), testcerts.NewAuthority(t, "ours"), testcerts.NewAuthority(t, "other")
		long := func(c *x509.Certificate) { c.NotAfter = time.Date(2009, 1, 1, 0, 0, 0, 0, time.UTC) }
		good, foreign = ours.Issue(t, long), other.Issue(t, long)
		files := map[string]string{"ca": ours.PEM(), "crl": ours.Revoke(t, time.Now().Add(10*24*time.Hour), nil)}
		put(t, files, "a", servers.Issue(t, long, "a.example.com"))
		return files
	}, func(dir string) Config {
		cfg := config(dir, "a")
		cfg.Clients = &Clients{CA: []string{filepath.Join(dir, "ca")}, CRL: []string{filepath.Join(dir, "crl")}}
		return cfg
	}, func(s *scene) {
		g := &gate{T: t, roots: servers.Pool()}
		enter := func(c *testcerts.Cert, want string) {
			t.Helper()
			if got := g.enter(s.store.Server(never), g.client(0, c)); !strings.HasPrefix(got, want) {
				t.Errorf("%s, not %s", got, want)
			}
		}
		enter(good, "in")
		enter(foreign, "tls: failed to verify certificate")
		const changed = `level=INFO msg="authorities of clients changed" revocationLists=1`
		s.put(map[string]string{"ca": ours.PEM() + other.PEM()}, "ca")
		s.after(inForce, changed)
		enter(foreign, "in")
		s.put(map[string]string{"crl": ours.Revoke(t, time.Now().Add(10*24*time.Hour), nil, good)}, "crl")
		s.after(inForce, changed)
		enter(good, "the client's certificate has been revoked")
		s.put(map[string]string{"ca": "rubbish"}, "ca")
		s.after(time.Minute, `level=WARN msg="TLS files not reloaded, those from before stay in force" error="ca[0]: ca: no certificate in PEM"`)
		enter(foreign, "in")
		enter(good, "the client's certificate has been revoked")
		s.put(map[string]string{"ca": ours.PEM()}, "ca")
		s.after(inForce, `level=INFO msg="TLS files can be read again" after="ca[0]: ca: no certificate in PEM"`, changed)
		enter(foreign, "tls: failed to verify certificate")

		// The list comes to its end.
		s.after(8*24*time.Hour + 23*time.Hour)
		date := ` file=crl date=2000-01-11T00:0`
		s.afterLike(2*time.Hour, `level=WARN msg="revocation list expires soon"`+date)
		s.afterLike(24*time.Hour, `level=ERROR msg="revocation list has expired, and clients are refused"`+date)
		enter(good, `the revocation list of "CN=ours" has expired`)
	})
}

// afterLike lets time pass, and compares how the one line begins that was
// logged meanwhile.
func (s *scene) afterLike(d time.Duration, want string) {
	s.Helper()
	if lines := s.pass(d); len(lines) != 1 || !strings.HasPrefix(lines[0], want) {
		s.Errorf("after %v: %q, not %s", d, lines, want)
	}
}

// Certificates are warned of before their end, once a day, later if they are
// short-lived.
func TestWatchDates(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	watching(t, func() map[string]string {
		a := testcerts.NewAuthority(t, "test")
		files := map[string]string{}
		for name, dates := range map[string][2]time.Duration{"long": {-day, 20 * day}, "short": {0, 6 * day}, "early": {2 * day, 90 * day}} {
			put(t, files, name, a.Issue(t, func(c *x509.Certificate) {
				c.NotBefore, c.NotAfter = time.Now().Add(dates[0]), time.Now().Add(dates[1])
				if name == "long" {
					c.NotBefore = c.NotBefore.Add(-90 * day)
				}
			}))
		}
		return files
	}, func(dir string) Config { return config(dir, "long", "short", "early") }, func(s *scene) {
		const early = `level=WARN msg="certificate is not valid yet" file=early.crt date=2000-01-03T00:00:00.000Z`
		soon := func(name, date string) string {
			return `level=WARN msg="certificate expires soon" file=` + name + `.crt date=2000-01-` + date + `T00:00:00.000Z`
		}
		s.after(time.Hour, early)
		s.after(22 * time.Hour)
		s.after(2*time.Hour, early)
		s.after(2 * day)                  // 01:00 on the 4th
		s.after(day, soon("short", "07")) // its last third begins on the 5th
		s.after(day, soon("short", "07"))
		const late = `level=ERROR msg="certificate has expired" file=short.crt date=2000-01-07T00:00:00.000Z`
		s.after(day, soon("long", "21"), late)
		s.store.Use(s.store.Policy()) // an update does not repeat it
		s.after(time.Hour)
		s.after(day, soon("long", "21"), late)
	})
}

// Watch looks at all stores there are, until its context ends.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := testcerts.NewAuthority(t, "test")
		files := map[string]string{}
		put(t, files, "a", a.Issue(t, nil, "a.example.com"))
		cfg := config(testfiles.Write(t, files), "a")
		late := config(testfiles.Write(t, files), "a")
		cfg.Watch, late.Watch = true, true
		stores := map[string]*Store{"first": NewStore(loaded(t, cfg))}
		var mu sync.Mutex
		var lines bytes.Buffer
		ctx, cancel := context.WithCancel(t.Context())
		var watcher sync.WaitGroup
		watcher.Go(func() {
			Watch(ctx, logTo(&lines), func() map[string]*Store {
				mu.Lock()
				defer mu.Unlock()
				return maps.Clone(stores)
			})
		})
		time.Sleep(time.Second)
		mu.Lock()
		stores["second"] = NewStore(loaded(t, late))
		mu.Unlock()
		time.Sleep(time.Minute)
		next := a.Issue(t, nil, "a.example.com")
		put(t, files, "a", next)
		for _, cfg := range []Config{cfg, late} {
			for name, path := range map[string]string{"a.crt": cfg.Certificates[0].Certificate, "a.key": cfg.Certificates[0].Key} {
				if err := os.WriteFile(path, []byte(files[name]), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		time.Sleep(inForce)
		cancel()
		watcher.Wait()
		for name, s := range stores {
			if !s.Policy().entries[0].cert.Leaf.Equal(next.Leaf) {
				t.Errorf("%s has another certificate", name)
			}
		}
		for _, want := range []string{`msg="certificate changed" listener=first `, `msg="certificate changed" listener=second `} {
			if strings.Count(lines.String(), want) != 1 {
				t.Errorf("no %s in %s", want, lines.String())
			}
		}
	})
}
