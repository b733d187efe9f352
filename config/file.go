package config

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/netip"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/internal/interrupt"
	"github.com/limpetlb/limpet/lbpool"
)

// A File is a configuration that has been read and checked, with all files that
// it names. It does not change; all methods may be called concurrently.
type File struct {
	doc *document
	layout
	files    files
	made     map[string]any      // of files: groups, scripts, certificates, by path
	content  map[string][32]byte // the digests of files that paths name
	warnings []*Error
	noKeys   bool // see CheckOptions
	outputs  bool // whether tryOut looks if what the process writes can be written
}

// Load reads the configuration at path, with the files that it includes and
// names, and checks all of it. It opens no sockets and looks up no names.
//
// If the configuration has faults, the error joins an [*Error] for each, 100 at
// most, in the order of the files; if there are more, the last error says how
// many. If the file at path itself cannot be read, the error is that of package
// os. It may be a pipe, which Load reads to its end. If ctx ends, Load returns
// the cause at once, see [context.Cause], also if a file cannot be read to its
// end: it waits neither for pipes nor for network file systems then.
func Load(ctx context.Context, path string) (*File, error) {
	return interrupt.Wait(ctx, func() (*File, error) {
		files := &osFiles{}
		data, err := files.readFirst(ctx, path)
		if err != nil {
			return nil, err
		}
		return load(ctx, files, &source{name: path, dir: filepath.Dir(path)}, data)
	})
}

// Parse checks the configuration in data as [Load] does. Errors have name as
// the name of the file. Files that the configuration includes and names are
// read from dir, and their names are relative to its root; if dir is nil, it
// cannot name such files. Only files of users, key sets, tables and logs, which
// the Runtime opens itself, are those of the operating system, and need
// absolute names.
//
// If ctx ends, Parse returns the cause, as Load does, and may leave a call of
// dir behind.
func Parse(ctx context.Context, name string, data []byte, dir fs.FS) (*File, error) {
	if len(data) > maxFile {
		return nil, &Error{File: name, Err: fmt.Errorf("longer than %d bytes", maxFile)}
	}
	data = bytes.Clone(data)
	return interrupt.Wait(ctx, func() (*File, error) {
		return load(ctx, &fsFiles{fs: dir}, &source{name: name, dir: "."}, data)
	})
}

// load makes a File of what a source has.
func load(ctx context.Context, files files, first *source, data []byte) (*File, error) {
	f, err := newDecoder(ctx, files).load(first, data, CheckOptions{})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// load makes a File of what a source has. If it has faults, the File has only
// warnings; it is nil if the context has ended.
func (d *decoder) load(first *source, data []byte, o CheckOptions) (*File, error) {
	doc := &document{}
	d.noKeys = o.NoKeys
	if err := d.decode(first, data, doc); err != nil {
		return nil, err
	}
	d.arrangement(doc)
	f := &File{doc: doc, layout: d.layout, files: d.files, made: map[string]any{}, content: map[string][32]byte{}, noKeys: o.NoKeys, outputs: d.outputs}
	if !d.lost {
		d.nextStage()
		f.tryOut(d, o.Resolve)
	}
	if d.ctx.Err() != nil {
		return nil, context.Cause(d.ctx)
	}
	f.warnings = append(f.warnings, d.warnings.errors(d.hidden)...)
	return f, d.join(d.hidden)
}

// decode reads the sources into v, a pointer to a struct: the first one and
// what it includes. The error is that of the context; faults are noted.
func (d *decoder) decode(first *source, data []byte, v any) error {
	d.first, d.src = first, first
	if err := d.tree.parse(first, data); err != nil {
		return err
	}
	err := d.tree.check(first)
	sources := []*source{first}
	if err == nil && !d.lost {
		sources, err = d.include(sources, len(data))
	}
	switch {
	case d.ctx.Err() != nil:
		return context.Cause(d.ctx)
	case err != nil:
		return nil //nolint:nilerr // there are too many nodes, which is noted
	}
	d.topLevel(sources, reflect.ValueOf(v).Elem())
	d.src = first
	if d.ctx.Err() != nil {
		return context.Cause(d.ctx)
	}
	return nil
}

// maxIncluded bounds the files that are included.
const maxIncluded = 256

// include reads the files that the first source includes.
func (d *decoder) include(sources []*source, total int) ([]*source, error) {
	first := sources[0]
	entries, _ := d.rootEntries(first)
	i := slices.IndexFunc(entries, func(e entry) bool { return e.key == includeKey })
	if i < 0 {
		return sources, nil
	}
	d.value(entries[i].value, reflect.ValueOf(&d.included).Elem(), includeKey)
	read := map[string]bool{filepath.Clean(first.name): true}
	for i, pattern := range d.included {
		at, _ := d.nearest(fielderr.Index(includeKey, i))
		fault := func(err error) {
			d.note(&fault{place: at.place, path: fielderr.Index(includeKey, i), err: err, fatal: true})
		}
		names, dirs, err := d.files.find(first.dir, pattern)
		if err == nil && len(names) == 0 && !strings.ContainsAny(pattern, `*?[`) {
			err = fmt.Errorf("there is no file %s", d.files.where(first.dir, pattern))
		}
		if err != nil {
			fault(err)
			continue
		}
		d.matched = append(d.matched, names...)
		for i, name := range names {
			if read[name] {
				continue
			}
			read[name] = true
			if len(read)-1 > maxIncluded {
				fault(fmt.Errorf("more than %d files", maxIncluded))
				return sources, nil
			}
			text, err := d.files.read(dirs[i], base(d.files, name), maxFile)
			if total += len(text); err == nil && total > maxFiles {
				err = fmt.Errorf("more than %d bytes in all files", maxFiles)
			}
			if err != nil {
				fault(err)
				return sources, nil
			}
			src := &source{name: name, dir: dirs[i], order: len(sources)}
			if err := d.tree.parse(src, text); err != nil {
				return nil, err
			}
			if err := d.tree.check(src); err != nil {
				return nil, err
			}
			sources = append(sources, src)
		}
	}
	return sources, nil
}

const includeKey = "include"

// base is the last element of a name.
func base(f files, name string) string {
	if _, is := f.(*osFiles); is {
		return filepath.Base(name)
	}
	return path.Base(name)
}

// rootEntries are the entries of a source; false if it is no mapping.
func (d *decoder) rootEntries(src *source) ([]entry, bool) {
	if src.root == nil {
		return nil, true
	}
	return d.mapping(src.root)
}

// topLevel reads all sources into one struct: lists are appended, everything
// else may stand in one of them only.
func (d *decoder) topLevel(sources []*source, v reflect.Value) {
	given := map[string]place{}
	for _, src := range sources {
		d.src = src
		entries, ok := d.rootEntries(src)
		if !ok {
			d.fault(src.root, "", "want a mapping, not %s", kind(src.root))
			continue
		}
		for _, e := range entries {
			f, ok := d.field(e, v.Type(), "", entries)
			if !ok {
				continue
			}
			key := fielderr.Name(f.Name)
			field := v.FieldByIndex(f.Index)
			before, twice := given[key]
			given[key] = d.placeOf(e.at)
			switch list := e.value; {
			case key == includeKey && src.order > 0:
				d.fault(e.at, key, "an included file cannot include files")
			case key == includeKey:
				field.Set(reflect.ValueOf(d.included)) // read already
			case !twice:
				d.value(e.value, field, key)
			case field.Kind() != reflect.Slice:
				d.fault(e.at, key, "stands in two files, the other is %s:%d:%d", before.name, before.line, before.column)
			default:
				if list = d.resolved(list, key); list == nil {
					continue
				}
				if list.Kind != yaml.SequenceNode {
					d.fault(list, key, "want a list, not %s", kind(list))
					continue
				}
				d.items(list.Content, field, key)
			}
		}
	}
	d.given = given
}

// arrangement notes keys at the top that the file has elsewhere if it has
// several services or listeners.
func (d *decoder) arrangement(doc *document) {
	several, listeners := len(doc.Services) > 0, len(doc.Listeners) > 0
	for key, at := range d.given {
		where := ""
		switch {
		case key == "services" && doc.Services != nil && !several, key == "listeners" && doc.Listeners != nil && !listeners:
			d.note(&fault{place: at, path: key, err: errors.New("an empty list")})
		case key == "listen" || key == "tls":
			if several || listeners {
				where = "listeners"
			}
		case several && !slices.Contains(sharedKeys, key) && key != includeKey && key != "services" && key != "listeners" && key != "stores" && key != "process" && key != "acme" && key != "logs" && key != "accessLog" && key != "tracing":
			where = "services"
			if key == "proxyProtocol" || key == "connections" {
				where = "listeners"
			}
		}
		switch {
		case where == "listeners" && key == "listen":
			d.note(&fault{place: at, path: key, err: errors.New("with listeners or services, write the address of each of the listeners")})
		case where != "":
			d.note(&fault{place: at, path: key, err: fmt.Errorf("in a file with %s, write it in one of them", where)})
		}
	}
}

// Warnings returns what is not a fault, but may be a mistake: doubtful code in
// scripts, settings that make clients lose their servers, certificates that
// have expired, deprecated keys.
func (f *File) Warnings() []*Error { return slices.Clone(f.warnings) }

// Paths returns the names of all files that were read, sorted. Programs that
// watch for changes watch these. It leaves out the files of tls in listeners,
// which [Runtime.Run] watches.
func (f *File) Paths() []string { return f.files.all() }

// included are the names of the files that the patterns of includes match now.
func (f *File) included() (all []string) {
	for _, pattern := range f.doc.Include {
		names, _, _ := f.files.find(f.first.dir, pattern) // patterns were good before
		all = append(all, names...)
	}
	return all
}

// Services returns the names of the services, in the order of the file.
func (f *File) Services() (names []string) {
	for _, s := range f.doc.Services {
		names = append(names, s.Name)
	}
	if names == nil {
		names = []string{cmp.Or(f.doc.Name, defaultName)}
	}
	return names
}

// tryOut makes everything that the file describes, once, and notes all faults.
func (f *File) tryOut(d *decoder, resolve bool) {
	b := f.builder(d.findings, Options{})
	b.ctx, b.checking = d.ctx, true
	a := b.assemble(kept{})
	if b.lost || d.ctx.Err() != nil {
		return
	}
	if f.outputs {
		b.checkOutputs(a)
	}
	b.nextStage()
	var uses []*cookieUse
	for _, m := range a.services {
		warnings := &collector{}
		cfg := m.edited()
		cfg.Logger = slog.New(warnings)
		if !d.alone {
			complete(&cfg)
		}
		vs := m.tryService(cfg)
		if d.alone && len(d.faults) == 0 {
			m.fault(idle(&cfg), "")
		}
		if vs == nil {
			continue
		}
		vs.CloseIdleConnections()
		uses = append(uses, m.cookieUses(&cfg)...)
		for _, w := range warnings.list {
			warning := &fault{place: place{source: d.first}, path: m.prefix, err: errors.New(w.text)}
			if i := slices.Index(poolNames(&f.doc.service), w.pool); i >= 0 {
				at, _ := f.nearest(fielderr.Index("pools", i))
				warning.place, warning.path = at.place, fielderr.Index("pools", i)
			}
			f.warnings = append(f.warnings, warning.error(d.hidden))
		}
	}
	for _, l := range a.listeners {
		if l.rules == nil {
			continue
		}
		if !d.alone {
			complete(l.rules)
		}
		vs, err := limpet.New(*l.rules)
		b.fault(err, "%s", l.path)
		if err == nil {
			vs.CloseIdleConnections()
		}
	}
	warnOfSharedCookies(uses, a.listeners)
	for i, l := range f.doc.Listeners {
		b.warnOfNetworkRules(l.NetworkSecurity, fielderr.Index("listeners", i)+".networkSecurity")
	}
	f.warnOfCertificates(a, d)
	builders := a.builders()
	if d.alone {
		for _, b := range builders {
			b.checkRatios()
		}
	}
	f.warnOfServers(builders)
	seen := map[string]bool{}
	for _, b := range builders {
		if resolve {
			f.warnings = append(f.warnings, b.lookUp()...)
		}
		b.warnOfBounds(seen)
		b.warnOfCookies()
		b.warnOfRules()
		for i, s := range b.compiled {
			path := fielderr.Join(b.prefix, b.at("scripts", i)+".file")
			for _, w := range s.Warnings() {
				f.warnings = append(f.warnings, &Error{File: f.files.where(f.dir(path), b.config.Scripts[i].File), Line: w.Line, Err: errors.New(w.Message)})
			}
		}
	}
}

// complete sets what rules need and a program may set in Edit, while a File is
// checked.
func complete(cfg *limpet.Config) {
	cfg.Reputations = anywhere{}
	if cfg.Geo == nil {
		cfg.Geo = anywhere{}
	}
}

// anywhere knows nothing of addresses.
type anywhere struct{}

// Locate implements [policy.Geo].
func (anywhere) Locate(netip.Addr, string) (string, bool) { return "", false }

// Reputation implements [datascript.Reputations].
func (anywhere) Reputation(netip.Addr) (string, bool) { return "", false }

// HasReputation implements [policy.Reputations].
func (anywhere) HasReputation(netip.Addr, string) (bool, error) { return false, nil }

// idle reports a service that would answer every request with 503.
func idle(cfg *limpet.Config) error {
	if len(cfg.Pools)+len(cfg.Scripts)+len(cfg.HTTPSecurity)+len(cfg.HTTPRequest) > 0 {
		return nil
	}
	return errors.New("no service: without pools, scripts and rules that answer every request gets status 503")
}

// checkRatios reports groups that would give no client a server.
func (b *builder) checkRatios() {
	for i, g := range b.config.PoolGroups {
		none := func(m memberConfig) bool { return m.Ratio != nil && *m.Ratio == 0 }
		if len(g.Members) > 0 && !slices.ContainsFunc(g.Members, func(m memberConfig) bool { return !none(m) }) {
			b.fault(errors.New("every member has ratio 0: no new client gets a server"), "%s.members", b.at("poolGroups", i))
		}
	}
}

// warn notes a warning about what stands at a path.
func (b *builder) warn(path string, err error) { b.warnAt(fielderr.Join(b.prefix, path), err) }

// warnAt notes a warning about what stands at a path of the file.
func (b *builder) warnAt(path string, err error) {
	at, _ := b.file.nearest(path)
	warning := &fault{place: at.place, path: b.file.shown(path), err: err}
	b.file.warnings = append(b.file.warnings, warning.error(b.file.hidden))
}

// noCookieKeys is the warning of a virtual service about cookies.
const noCookieKeys = "persistence cookies have no configured keys: clients lose their servers at the next start"

// oneCookie is the warning of a virtual service about profiles that
// warnOfSharedCookies warns of, with their places.
const oneCookie = "two persistence profiles have a cookie of one name: clients lose their servers"

// warnOfCookies warns of cookies that no key of the file seals.
func (b *builder) warnOfCookies() {
	without := func(c *httpCookie, path string) {
		if c != nil && len(c.Keys) == 0 {
			b.warn(path, errors.New(noCookieKeys))
		}
	}
	if c, ok := b.config.Persistence.own.(httpCookie); ok {
		without(&c, "persistence")
	}
	for i, profile := range b.config.PersistenceProfiles {
		without(profile.HTTPCookie, b.at("persistenceProfiles", i)+".httpCookie")
	}
}

// warnOfServers warns of servers of custom headers that no pool has.
func (f *File) warnOfServers(builders []*builder) {
	var pools []*lbpool.Pool
	for _, b := range builders {
		for _, c := range b.pools {
			p, err := lbpool.New(c)
			if err != nil || len(c.Discoveries) > 0 {
				return // nobody knows all servers
			}
			pools = append(pools, p)
		}
	}
	for _, b := range builders {
		if c, ok := b.config.Persistence.own.(customHeader); ok {
			b.warnOfHeader(&c, "persistence", pools)
		}
		for i, profile := range b.config.PersistenceProfiles {
			if profile.CustomHeader != nil {
				b.warnOfHeader(profile.CustomHeader, b.at("persistenceProfiles", i)+".customHeader", pools)
			}
		}
	}
}

// warnOfHeader warns of servers of a custom header that none of the pools has.
func (b *builder) warnOfHeader(c *customHeader, path string, pools []*lbpool.Pool) {
	for _, value := range slices.Sorted(maps.Keys(c.Servers)) {
		server := c.Servers[value]
		if !slices.ContainsFunc(pools, func(p *lbpool.Pool) bool { _, _, ok := p.Lookup(server, 0); return ok }) {
			b.warn(fielderr.Key(path+".servers", value), fmt.Errorf("no pool has the server %s", fielderr.Quote(server)))
		}
	}
}

// A collector keeps what a virtual service warns of when it is made, but for
// the warnings of scripts, of cookies without keys and of cookies of one name,
// which have places of their own.
type collector struct {
	list []struct{ text, pool string } // pool is empty if it is not about one
}

// Enabled implements [slog.Handler].
func (*collector) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

// Handle implements [slog.Handler].
func (c *collector) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "doubtful script" || r.Message == noCookieKeys || r.Message == oneCookie {
		return nil
	}
	text, pool := r.Message, ""
	r.Attrs(func(a slog.Attr) bool {
		if a.Key != "vs" {
			text += fmt.Sprintf(" %s=%v", a.Key, a.Value)
		}
		if a.Key == "pool" {
			pool = a.Value.String()
		}
		return true
	})
	c.list = append(c.list, struct{ text, pool string }{text, pool})
	return nil
}

// WithAttrs implements [slog.Handler].
func (c *collector) WithAttrs([]slog.Attr) slog.Handler { return c }

// WithGroup implements [slog.Handler].
func (c *collector) WithGroup(string) slog.Handler { return c }
