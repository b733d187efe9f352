package config

import (
	"context"
	"errors"
	"io"
	"iter"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/configkeys"
	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/internal/redistest"
	"github.com/limpetlb/limpet/internal/testcerts"
	"github.com/limpetlb/limpet/internal/testrace"
	"github.com/limpetlb/limpet/internal/testwait"
)

// A keyFile is one of testdata/keys: a configuration that serves. Each key of
// the schema stands in one of them.
type keyFile struct {
	name string
	root *yaml.Node
	dir  string // where it and all that it names are
	keys []*keyCase
}

// A keyCase is a key where it stands in a file.
type keyCase struct {
	*configkeys.Key
	of    *keyFile
	at    string // its path, as errors have it
	trail []node // from the top down to its value
}

// A node is a value in a configuration: of a key of a mapping, or of a list.
type node struct {
	in    *yaml.Node
	index int // in in.Content
}

// newKeyFile reads a file, whose words in capital letters stand for others.
func newKeyFile(t *testing.T, name string, files, words map[string]string) *keyFile {
	t.Helper()
	dir, err := os.MkdirTemp("", "keys") //nolint:usetesting // it must be short enough for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	f := &keyFile{name: name, dir: dir, root: &yaml.Node{}}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(filepath.Join("testdata/keys", name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal([]byte(replaced(string(text), dir, words)), f.root); err != nil {
		t.Fatal(name, err)
	}
	return f
}

func replaced(text, dir string, words map[string]string) string {
	text = strings.ReplaceAll(text, "DIR", dir)
	for word, value := range words {
		text = strings.ReplaceAll(text, word, value)
	}
	return text
}

// find adds the keys that stand in the file to found.
func (f *keyFile) find(keys map[string]*configkeys.Key, found map[*configkeys.Key]*keyCase) {
	var look func(n *yaml.Node, path, at string, trail []node)
	look = func(n *yaml.Node, path, at string, trail []node) {
		for i := 0; i < len(n.Content); i++ {
			path, at := path, at
			if n.Kind == yaml.SequenceNode {
				at = fielderr.Index(at, i)
			} else {
				name := n.Content[i].Value
				i++
				path, at = strings.TrimPrefix(path+"."+name, "."), fielderr.Join(at, name)
			}
			trail := append(slices.Clone(trail), node{n, i})
			if k := keys[path]; k != nil && n.Kind == yaml.MappingNode && found[k] == nil {
				c := &keyCase{k, f, at, trail}
				found[k] = c
				f.keys = append(f.keys, c)
			}
			look(n.Content[i], path, at, trail)
		}
	}
	look(f.root.Content[0], "", "", nil)
}

// text is the file as it is.
func (f *keyFile) text() string {
	text, err := yaml.Marshal(f.root)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// load reads a text as the file.
func (f *keyFile) load(ctx context.Context, text string) (*File, error) {
	path := filepath.Join(f.dir, "limpet.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return nil, err
	}
	return Load(ctx, path)
}

// with is the file with another value of the key.
func (c *keyCase) with(value string) string {
	n := c.trail[len(c.trail)-1]
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(value), &doc); err != nil {
		panic(err)
	}
	was := n.in.Content[n.index]
	n.in.Content[n.index] = doc.Content[0]
	defer func() { n.in.Content[n.index] = was }()
	return c.of.text()
}

// without is the file without a value that is up levels above that of the key.
func (c *keyCase) without(up int) string {
	n := c.trail[len(c.trail)-1-up]
	was, from := n.in.Content, n.index
	if n.in.Kind == yaml.MappingNode {
		from--
	}
	n.in.Content = slices.Delete(slices.Clone(was), from, n.index+1)
	defer func() { n.in.Content = was }()
	return c.of.text()
}

// value is what stands there.
func (c *keyCase) value() *yaml.Node {
	n := c.trail[len(c.trail)-1]
	return n.in.Content[n.index]
}

// others are texts of the file with another value of the key, if possible one
// that is accepted.
func (c *keyCase) others(given map[string]string) (texts []string) {
	if text, ok := given[c.Paths[0]]; ok {
		return []string{c.with(text)}
	}
	switch value := c.value(); value.Kind {
	case yaml.ScalarNode:
		for _, other := range c.otherScalars(value.Value) {
			texts = append(texts, c.with(other))
		}
	case yaml.SequenceNode:
		if n := len(value.Content); n > 1 {
			all := value.Content
			value.Content = all[:n-1]
			texts = append(texts, c.of.text())
			value.Content = all
		}
	}
	for up := range len(c.trail) {
		texts = append(texts, c.without(up))
	}
	if c.Type == "text" {
		texts = append(texts, c.renamed())
	}
	return texts
}

// renamed is the file with another name wherever the one of the key stands.
func (c *keyCase) renamed() string {
	var all []*yaml.Node
	was := c.value().Value
	var look func(n *yaml.Node)
	look = func(n *yaml.Node) {
		if n.Kind == yaml.ScalarNode && n.Value == was {
			n.Value += "x"
			all = append(all, n)
		}
		for _, n := range n.Content {
			look(n)
		}
	}
	look(c.of.root)
	defer func() {
		for _, n := range all {
			n.Value = was
		}
	}()
	return c.of.text()
}

// otherScalars are values near one.
func (c *keyCase) otherScalars(value string) []string {
	if words, ok := strings.CutPrefix(c.Type, "one of "); ok {
		words, _, _ = strings.Cut(words, "; or")
		return slices.DeleteFunc(strings.Split(words, ", "), func(word string) bool { return word == value })
	}
	if d, err := time.ParseDuration(value); err == nil && c.Type == "duration" {
		return []string{(d + time.Second).String(), (d / 2).String()}
	}
	if n, err := strconv.Atoi(value); err == nil && c.Type != "text" {
		return []string{strconv.Itoa(n + 1), strconv.Itoa(n - 1)}
	}
	switch {
	case c.Type == "true or false":
		return []string{strconv.FormatBool(value != "true")}
	case c.Type == "size":
		return []string{"96KiB"}
	case c.Type == "text" && value != "":
		end := filepath.Ext(value) // of a file, there may be a second one
		return []string{strconv.Quote(value + "x"), strconv.Quote(strings.TrimSuffix(value, end) + "2" + end)}
	}
	return nil
}

// faulty are values of the key that make no sense, whatever stands beside it.
func (c *keyCase) faulty(given map[string]string) (values []string) {
	if text, ok := given[c.Paths[0]]; ok {
		values = append(values, text)
	}
	for bound, by := range map[string]int{c.Min: -1, c.Max: 1} {
		if d, err := time.ParseDuration(bound); err == nil && c.Type == "duration" && d+time.Duration(by)*time.Second >= 0 {
			values = append(values, (d + time.Duration(by)).String())
		} else if n, err := strconv.Atoi(bound); err == nil && (n+by != 0 || c.Default == "" && c.Min == "0") {
			values = append(values, strconv.Itoa(n+by))
		}
	}
	if strings.HasPrefix(c.Type, "one of") {
		values = append(values, "nonsense")
	}
	if c.value().Kind == yaml.ScalarNode || strings.HasPrefix(c.Type, "list of") {
		values = append(values, "{nonsense: nonsense}")
	}
	if c.value().Kind != yaml.ScalarNode && !strings.Contains(c.Type, "text") {
		values = append(values, "nonsense")
	}
	if c.value().Kind != yaml.SequenceNode && c.Type != "text, or list of texts" {
		values = append(values, "[[nonsense]]")
	}
	return values
}

// keyFiles are the files of testdata/keys, with the cases of all keys.
func keyFiles(t *testing.T) []*keyFile {
	t.Helper()
	files := map[string]string{
		"a.lua": "x = 1\n", "b.lua": "-- HTTP_RESP\ny = 1\n", "places.txt": placesTable, "places2.txt": placesTable, "list.txt": "192.0.2.1\n", "list2.txt": "192.0.2.2\n", "words.csv": "one,two\n", "words2.csv": "three\n",
		"users": "ann:$2y$04$xqeLw8BGEwYfUIvA4Pezj.RNSRAOBvhfHtghmz7H/sGBP1v00.Biy\n", "secret.txt": strings.Repeat("s", 32),
		"traces.txt":       "X-Key: a",
		"keys.json":        `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`, // RFC 8037, A.2
		"more.d/more.yaml": "persistenceHeader: X-More\n",
	}
	for name, was := range map[string]string{"a2.lua": "a.lua", "b2.lua": "b.lua", "users2": "users", "keys2.json": "keys.json", "secret2.txt": "secret.txt"} {
		files[name] = files[was]
	}
	database, err := os.ReadFile("../ipgroup/geoip/testdata/example.mmdb")
	if err != nil {
		t.Fatal(err)
	}
	files["places.mmdb"], files["places2.mmdb"] = string(database), string(database)
	authority := testcerts.NewAuthority(t, "test")
	for _, name := range []string{"a", "b", "client", "redis"} {
		c := authority.Issue(t, nil, name+".example.com", "redis.test")
		files[name+".pem"], files[name+".key"] = c.PEM(), c.KeyPEM(t)
	}
	for _, name := range []string{"a", "b", "client"} {
		files[name+"2.pem"], files[name+"2.key"] = files[name+".pem"], files[name+".key"]
	}
	files["ca.pem"], files["ca2.pem"], files["ca.crl"] = authority.PEM(), authority.PEM(), authority.Revoke(t, time.Now().Add(time.Hour), nil)
	more := authority.Issue(t, nil, "more.example.com")
	files["certs/more.pem"], files["certs2/more.pem"] = more.PEM()+more.KeyPEM(t), more.PEM()+more.KeyPEM(t)

	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "server") }))
	t.Cleanup(origin.Close)
	dir := t.TempDir()
	for _, name := range []string{"redis.pem", "redis.key"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(files[name]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	files["redis.pem"] = authority.PEM()
	port := freePort(t)
	server := redistest.Start(t, "--tls-port", port, "--tls-cert-file", dir+"/redis.pem", "--tls-key-file", dir+"/redis.key", "--tls-auth-clients", "no",
		"--user", "limpet", "on", ">first", ">second", "~*", "&*", "+@all", "--user", "other", "on", ">first", "~*", "&*", "+@all")
	words := map[string]string{
		"SERVER": strings.TrimPrefix(origin.URL, "http://"), "REDIS": server.Addr, "SECURE": "127.0.0.1:" + port,
		"LOC4L": strings.Replace(server.Addr, "127.0.0.1", "localhost", 1),
	}
	for path, text := range keyChanges {
		keyChanges[path] = replaced(text, "DIR", words)
	}

	keys, found := map[string]*configkeys.Key{}, map[*configkeys.Key]*keyCase{}
	all := allKeys(t)
	for _, k := range all {
		for _, path := range k.Paths {
			keys[path] = k
		}
	}
	names, err := filepath.Glob("testdata/keys/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var sites []*keyFile
	for _, name := range names {
		f := newKeyFile(t, strings.TrimSuffix(filepath.Base(name), ".yaml"), files, words)
		f.find(keys, found)
		sites = append(sites, f)
	}
	for _, k := range all {
		if found[k] == nil && refusedKeys[k.Paths[0]] == "" {
			t.Errorf("no file of testdata/keys has the key %s", k.Paths[0])
		}
	}
	return sites
}

// Each key is accepted, and refused with its place if its value makes no sense.
// A change of it, while requests are under way, fails none, and does what the
// schema says: it is in force at once, or waits for a restart.
func TestEveryKey(t *testing.T) {
	n := 0
	for _, f := range keyFiles(t) {
		t.Run(f.name, func(t *testing.T) {
			if _, err := f.load(t.Context(), f.text()); err != nil {
				t.Fatal(err)
			}
			if testing.Short() || testrace.Enabled {
				f.keys = slices.DeleteFunc(f.keys, func(*keyCase) bool { n++; return n%8 != 0 })
			}
			for _, c := range f.keys {
				c.refuses(t)
			}
			// What is in force is read beside what runs, which is a race.
			if !slices.Contains(unsettledFiles, f.name) && !testrace.Enabled {
				f.reloads(t)
			}
		})
	}
}

// unsettledFiles are those whose keys are accepted and refused here, but not
// reloaded yet: their cases of reloads have not all been looked into.
var unsettledFiles = []string{"listener", "pools", "services"}

// refuses checks that values that make no sense are refused.
func (c *keyCase) refuses(t *testing.T) {
	values := c.faulty(keyFaults)
	if len(values) == 0 {
		t.Errorf("%s: no value is faulty", c.at)
	}
	for _, value := range values {
		_, err := c.of.load(t.Context(), c.with(value))
		said := false
		for fault := range faultsIn(err) {
			said = said || strings.HasPrefix(fault.Path, c.at) || strings.HasPrefix(c.at, fault.Path+".") && strings.Contains(fault.Error(), strings.Trim(value, "{}[]"))
		}
		if !said {
			t.Errorf("%s: %s is accepted, or not refused there: %v", c.at, value, err)
		}
	}
}

// A change of a key.
type keyChange struct {
	*keyCase
	text string // of the whole file
	file *File
}

// change returns an accepted file with another value of the key.
func (c *keyCase) change(t *testing.T) (keyChange, bool) {
	var faults []error
	for _, text := range c.others(keyChanges) {
		f, err := c.of.load(t.Context(), text)
		if err == nil {
			return keyChange{c, text, f}, true
		}
		faults = append(faults, err)
	}
	t.Errorf("%s: no other value is accepted: %v", c.at, errors.Join(faults...))
	return keyChange{}, false
}

// reloads changes one key after the other, and back with the next one, while
// clients make requests.
func (f *keyFile) reloads(t *testing.T) {
	s := f.serve(t)
	reload, stop := f.traffic(t, s)
	defer stop()
	base := f.inForce(t, f.text())
	again := f.inForce(t, f.text())
	reloaded := f.open(t, f.text(), apart())
	defer ended(reloaded)
	was := ""
	for _, k := range f.keys {
		c, ok := k.change(t)
		if !ok {
			continue
		}
		if strings.HasPrefix(c.Reload, reloadFresh) { // than what stands in the file
			_, _ = reload(reloaded.begun)
		}
		changes, err := reload(c.file)
		if err != nil {
			t.Errorf("%s: %v", c.at, err)
			continue
		}
		if c.text != was { // that of the key before may be the same
			c.judge(t, changes)
		}
		was = c.text
		c.compare(t, reloaded, base, again)
	}
}

// judge compares what a reload says that it did with what the schema says.
func (c *keyChange) judge(t *testing.T, changes Changes) {
	effect, _, _ := strings.Cut(c.Reload, ":")
	if restarts := slices.Contains(changes.Restart, c.at) || strings.HasPrefix(c.at, "listeners[2].mode"); restarts != (effect == reloadRestart) && !strings.HasSuffix(c.at, ".mode") {
		t.Errorf("%s, %s: %+v", c.at, effect, changes)
	}
	within := func(path string) bool {
		return path == c.at || strings.HasPrefix(c.at, path+".") || strings.HasPrefix(c.at, path+"[") || strings.HasPrefix(path, c.at)
	}
	if effect != reloadRestart && !slices.ContainsFunc(changes.Fresh, within) && (effect == reloadFresh || !slices.ContainsFunc(changes.Live, within)) {
		t.Errorf("%s, %s: %+v", c.at, effect, changes)
	}
}

// compare checks what is in force after the change: all that distinguishes a
// runtime that starts with it from one that does not. What waits for a restart
// is as before.
func (c *keyChange) compare(t *testing.T, reloaded *Runtime, base, again map[string]string) {
	fresh := c.of.inForce(t, c.text)
	if _, err := reloaded.Update(c.file); err != nil {
		t.Errorf("%s: %v", c.at, err)
		return
	}
	got, want, same, faults := observed(reloaded), fresh, true, 0
	if strings.HasPrefix(c.Reload, reloadRestart) {
		want = base
	}
	for path := range paths(base, fresh) {
		if base[path] == fresh[path] || base[path] != again[path] || unordered(path) {
			continue
		}
		same = false
		if got[path] != want[path] && faults < 5 {
			faults++
			t.Errorf("%s: %s is %q, not %q; it was %q", c.at, path, got[path], want[path], base[path])
		}
	}
	if same && checkedKeys[c.Paths[0]] == "" {
		t.Errorf("%s: makes no difference", c.at)
	}
}

// unordered reports whether a path is in what remembers what was before, or has
// no order.
func unordered(path string) bool {
	return strings.Contains(path, ".keeper.") || strings.Contains(path, ".rows.")
}

// paths are those of either.
func paths(a, b map[string]string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for path := range a {
			if !yield(path) {
				return
			}
		}
		for path := range b {
			if _, ok := a[path]; !ok && !yield(path) {
				return
			}
		}
	}
}

// inForce observes a runtime that starts with a text.
func (f *keyFile) inForce(t *testing.T, text string) map[string]string {
	rt := f.open(t, text, apart())
	defer ended(rt)
	return observed(rt)
}

// ended shuts a runtime down at once.
func ended(rt *Runtime) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = rt.Shutdown(ctx)
	rt.logs.stop()
}

// open makes a runtime that listens.
func (f *keyFile) open(t *testing.T, text string, o Options) *Runtime {
	t.Helper()
	file, err := f.load(t.Context(), text)
	if err != nil {
		t.Fatal(err)
	}
	rt, err := file.Build(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := rt.Listen(); err != nil {
		t.Fatal(err)
	}
	return rt
}

// keyOptions add what only programs have.
func keyOptions() Options {
	return Options{Issuer: newDesk(), Edit: func(_ string, c *limpet.Config) { c.Reputations = reputations{} }}
}

// apart are the options of a runtime that has other addresses than the file
// says, because another runtime has these.
func apart() Options {
	o := keyOptions()
	o.HandedOver = func(string, string) ([]net.Listener, error) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		return []net.Listener{ln}, err
	}
	return o
}

// serve serves the file.
func (f *keyFile) serve(t *testing.T) *Runtime {
	t.Helper()
	rt := f.open(t, f.text(), keyOptions())
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = rt.Run(ctx) })
	ready := make(chan struct{})
	wg.Go(func() { _ = rt.Serve(func() { close(ready) }) })
	t.Cleanup(func() {
		ended(rt)
		stop()
		wg.Wait()
	})
	testwait.Receive(t, ready, "start")
	return rt
}

// traffic makes requests at the first listener while reload updates the
// runtime, until stop is called: on one connection after the other, and on one
// that stays open.
func (f *keyFile) traffic(t *testing.T, rt *Runtime) (reload func(*File) (Changes, error), stop func()) {
	first := rt.Listeners()[0]
	var n [2]atomic.Int64
	var failed atomic.Bool
	var pause sync.RWMutex // of requests, unless the runtime is being updated
	pause.Lock()
	over := make(chan struct{})
	var clients sync.WaitGroup
	for i := range n {
		clients.Go(func() {
			c := &strictClient{addr: first.Addr().String(), keep: i == 0, secure: first.TLS != nil}
			defer c.close()
			for !isDone(over) {
				pause.RLock()
				err := c.get()
				pause.RUnlock()
				if err != nil {
					t.Errorf("a request failed: %v", err)
					failed.Store(true)
					return
				}
				n[i].Add(1)
			}
		})
	}
	reload = func(file *File) (Changes, error) {
		pause.Unlock()
		defer pause.Lock()
		a, b := n[0].Load(), n[1].Load()
		changes, err := rt.Update(file)
		testwait.Until(t, "requests go on", func() bool { return n[0].Load() > a && n[1].Load() > b || failed.Load() })
		return changes, err
	}
	return reload, func() {
		close(over)
		pause.Unlock()
		clients.Wait()
	}
}

func isDone(over <-chan struct{}) bool {
	select {
	case <-over:
		return true
	default:
		return false
	}
}

// refusedKeys are keys that are always refused, and why.
var refusedKeys = map[string]string{
	"pools.discoveries.finder.dns.server.address": "the look-up gives the addresses",
	"pools.discoveries.finder.dns.server.name":    "a name cannot be that of several servers",
}

// checkedKeys are keys that only say what is accepted, and why.
var checkedKeys = map[string]string{
	"ipGroups.maxEntries":              "bounds what is read",
	"ipGroups.maxBytes":                "bounds what is read",
	"ipGroups.allowEmpty":              "accepts more when it is read",
	"stringGroups.allowEmpty":          "accepts more when it is read",
	"stringGroups.strict":              "accepts less when it is read",
	"pools.resolveInterval":            "no server of the file has a host name",
	"pools.discoveries.finder.dns.srv": "needs another name beside it",
	"pools.algorithm.leastConnections": "it is the default",
	"persistenceProfiles.name":         "only the file names it",
	"persistenceProfiles":              "one that nothing names is not made",
	"scripts.external":                 "accepts more when the script is checked",
	"scripts.file":                     "compiled scripts are not observed; TestReload changes one",
}

// keyChanges are other values of keys, where a value near the one in the file
// would not do.
var keyChanges = map[string]string{
	"persistenceProfiles.httpCookie":        "{name: b}",
	"persistenceProfiles.appCookie":         "{name: b}",
	"persistenceProfiles.customHeader":      `{name: X-Server, servers: {b: "192.0.2.4:80"}}`,
	"persistenceProfiles.clientIP":          "{timeout: 11m}",
	"persistence.customHeader.servers":      `{b: "192.0.2.4:80"}`,
	"tls":                                   "{certificate: b.pem, key: b.key}", // requests go on
	"poolGroups.failAction.status":          "200",
	"poolGroups.failAction.redirect.scheme": "http",
	"rateProfile.location":                  "https://www.example.com/busy",
	"stores.redis":                          `{addresses: ["REDIS"], prefix: other}`,
	"stores.redis.addresses":                `["LOC4L"]`,
	"stores.redis.username":                 "other",
	"stores.redis.password":                 "second",
	"stores.redis.tls":                      "{insecureSkipVerify: true}",
	"tables.redis":                          `{addresses: ["REDIS"], username: limpet, password: first, database: 1, prefix: other, timeout: 60s}`,
}

// keyFaults are values that are refused for what they say.
var keyFaults = map[string]string{"listen": "nonsense"}
