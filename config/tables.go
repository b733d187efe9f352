package config

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/bounds"
	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/persistence"
	"github.com/limpetlb/limpet/persistence/redisstore"
)

// tableOptions say where tables are, and what they may have.
type tableOptions struct {
	persistence.Options
	tableFile
	// Redis is the server that has the tables. They are in memory unless given.
	Redis *redisConfig
}

// tableFile says where tables in memory are kept for the next start.
type tableFile struct {
	// File has tables in memory for the next start.
	File string
	// SaveInterval is the pause between two saves to File. 0 means a minute.
	SaveInterval time.Duration `default:"1m" min:"1s" max:"24h"`
}

// redisConfig is [redisstore.Config] in YAML. The options of the tables stand
// beside it.
type redisConfig struct {
	redisstore.Config
	// TLS says how to speak TLS to the server. Without it, TLS is not used.
	TLS *tlsClient
}

// tables are those of a service or a store.
type tables struct {
	// Tables is the handle of services. When they have none any more, what is
	// behind it ends.
	limpet.Tables
	memory *persistence.Store // with the same entries as the handle; nil on a server
	remote *redisstore.Store  // behind the handle; nil in memory

	tableOptions
	at      string   // where these stand in the file
	path    string   // of File
	id      fileID   // of that
	secrets [][]byte // the digests of the files of redis.tls
	lasting bool     // they are in a file or on a server
	before  *tables  // in the place of which they are; nil unless an update is under way
	relay   *relay   // from these; nil if there is nothing to take over

	saver *persistence.Saver // nil without a file

	stop  context.CancelFunc // ends the saver, which saves then; nil until it runs
	ended chan struct{}      // closed when it has
}

// A remoteHandle is the handle of tables on a server.
type remoteHandle struct{ *redisstore.Store }

// newTables makes the tables of a key, unless there are some already that have
// the same options. It connects to nothing. owner is what the log calls them.
func (b *builder) newTables(key string, o tableOptions, path string, owner slog.Attr) *tables {
	t := &tables{tableOptions: o, at: fielderr.Join(b.prefix, path), lasting: o.File != "" || o.Redis != nil}
	if o.File != "" {
		t.path = b.pathOf(o.File, path+".file")
		t.id = identify(t.path)
	}
	t.before = b.predecessor(key, t.id)
	for _, name := range []string{"ca", "certificate", "key"} {
		sum := b.file.content[t.at+".redis.tls."+name]
		t.secrets = append(t.secrets, sum[:])
	}
	old := t.before
	if old != nil && old.path == t.path && reflect.DeepEqual(old.tableOptions, t.tableOptions) && reflect.DeepEqual(old.secrets, t.secrets) {
		return old
	}
	var faults fielderr.List
	bounds.Check("", o.tableFile, &faults)
	if o.Redis != nil && o.File != "" {
		faults.Addf("file", o.File, "tables on a server have no file")
	}
	if _, is := b.file.files.(*osFiles); o.File != "" && !is && !filepath.IsAbs(o.File) {
		faults.Add("file", o.File, errNotAbsolute)
	}
	if o.File == "" && o.SaveInterval != 0 {
		faults.Addf("saveInterval", o.SaveInterval, "without a file")
	}
	if o.Redis == nil || b.options.Offline {
		before := faults.Len()
		bounds.Check("", o.Options, &faults)
		faults.Constant("whenFull", o.WhenFull)
		if faults.Len() > before {
			o.Options = persistence.Options{}
		}
	}
	b.fault(faults.ErrIn(o), "%s", path)
	if o.Redis == nil || b.options.Offline {
		t.inMemory(o.Options)
		if o.File != "" && !b.options.Offline {
			t.saver = &persistence.Saver{Store: t.memory, Path: t.path, Interval: o.SaveInterval, Logger: b.log}
			if b.file.outputs {
				if err := canCreateIn(filepath.Dir(t.path), t.path); err != nil {
					b.warn(path+".file", fmt.Errorf("the tables cannot be saved: %w", err))
				}
			}
		}
		return t
	}
	cfg := o.Redis.Config
	cfg.Options = o.Options
	if cfg.Logger = b.log; cfg.Logger != nil {
		cfg.Logger = cfg.Logger.With(owner)
	}
	if o.Redis.TLS != nil {
		cfg.TLS = b.tlsClient(*o.Redis.TLS, path+".redis.tls")
	}
	s, err := redisstore.New(cfg)
	b.fault(fielderr.Rename("redis.options", "", fielderr.Under("redis", err)), "%s", path)
	if err != nil {
		t.inMemory(persistence.Options{}) // for what refers to it
		return t
	}
	t.Tables, t.remote = &remoteHandle{s}, s
	return t
}

// inMemory makes tables in memory: those before if they have the same bounds.
func (t *tables) inMemory(o persistence.Options) {
	if old := t.before; old != nil && old.memory != nil && reflect.DeepEqual(old.Options, o) {
		t.Tables, t.memory = old.Tables, old.memory
		return
	}
	handle := persistence.NewStore(o)
	t.memory = persistence.NewStore(o)
	handle.Adopt(t.memory) // shares the entries, since the options are the same
	t.Tables = handle
}

// inherits reports whether the tables need the entries of those before.
func (t *tables) inherits() bool {
	return t.before != nil && t.memory != nil && t.before.memory != nil && t.memory != t.before.memory
}

// anew reports whether the tables begin without the entries of those before, or
// the profiles that have their clients there do.
func (t *tables) anew() bool {
	old := t.before
	return old != nil && (t.lasting != old.lasting || (t.memory == nil) != (old.memory == nil) || t.remote != nil && t.Redis.place() != old.Redis.place())
}

// reachTime is how long an update may wait for a server of tables.
const reachTime = 2 * time.Second

// reach waits until the server of the tables answers.
func (t *tables) reach() error {
	ctx, cancel := context.WithTimeout(context.Background(), reachTime)
	defer cancel()
	pause := time.NewTicker(reachTime / 40)
	defer pause.Stop()
	for {
		err := t.remote.Ping(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-pause.C:
		}
	}
}

// prepareTables makes ready what is to take the place of other tables, of all
// those of an update, and notes what cannot. Call takeTables then, or
// abandonTables.
func (rt *Runtime) prepareTables(b *builder) {
	fault := func(t *tables, err error) { b.fault(err, "%s", t.at) }
	for _, t := range b.now.tables {
		if t.before != nil && t.remote != nil {
			b.fault(t.reach(), "%s.redis", t.at)
		}
	}
	if len(b.faults) == 0 {
		rt.inherit(b.now.tables, fault)
	}
}

// abandonTables ends what an update has made ready.
func (rt *Runtime) abandonTables(all map[string]*tables) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	for _, t := range all {
		if t.before != nil && t.remote != nil {
			_ = t.remote.Close() // which returns nil
		}
		if t.relay != nil {
			t.relay.sender.Close()
			rt.cut(t.memory)
		}
	}
}

// takeTables makes tables take the place of others, just before services have
// them.
func (rt *Runtime) takeTables(all map[string]*tables) {
	rt.relay(all)
	rt.leave(all)
	rt.openTables(all)
	for _, t := range all {
		t.before = nil // else it would not become unused
	}
}

// store makes the tables of one of the stores.
func (b *builder) store(a *assembly, i int, c storeConfig) {
	key, path := storeKey(c.Name), fmt.Sprintf("stores[%d]", i)
	if err := badName(c.Name, a.stores[key] != nil); err != nil {
		b.fault(err, "%s.name", path)
		return
	}
	b.apart(a, c.tableOptions, key, path)
	a.stores[key] = b.newTables(key, c.tableOptions, path, slog.String("store", c.Name))
}

// tables finds or makes the tables of a service, whose own have a key.
func (b *builder) tables(a *assembly, c tablesConfig, key, name string) {
	switch s := a.stores[storeKey(c.Store)]; {
	case c.Store == "":
		b.apart(a, c.tableOptions, key, "tables")
		a.stores[key] = b.newTables(key, c.tableOptions, "tables", slog.String("vs", name))
		b.use(a.stores[key], "")
	case s == nil:
		b.fault(fmt.Errorf("store %q not found", c.Store), "tables.store")
	case !reflect.DeepEqual(c.tableOptions, tableOptions{}):
		b.fault(errors.New("want a store, or options of tables of its own"), "tables")
	default:
		b.use(s, name)
	}
}

// use makes tables those of the service. If they outlive the process, so do the
// clients of persistence profiles, in tables whose names begin with scope.
func (b *builder) use(t *tables, scope string) {
	b.cfg.Tables = t.Tables
	if sessions, ok := t.Tables.(persistence.Sessions); ok && t.lasting {
		b.clients, b.scope = sessions, scope
	}
}

// apart notes tables that would have the same entries as others without saying
// so. Those of a key stand at a path.
func (b *builder) apart(a *assembly, o tableOptions, key, path string) {
	if o.File != "" {
		b.writesTo(a, writer{kind: writesTables, path: path + ".file", key: key}, b.pathOf(o.File, path+".file"), besides...)
	}
	if o.Redis == nil {
		return
	}
	place := o.Redis.place()
	if a.places[place] {
		b.fault(errors.New("other tables have this prefix there: write another prefix, or let the services name one of stores"), "%s.redis", path)
	}
	a.places[place] = true
}

// place is where the entries are.
func (c *redisConfig) place() string {
	return fmt.Sprintf("redis %q %d %s", slices.Sorted(slices.Values(c.Addresses)), c.Database, cmp.Or(c.Prefix, redisstore.DefaultPrefix))
}

// pathOf is where a file is that is named at a path.
func (b *builder) pathOf(name, path string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return b.file.files.where(b.file.dir(fielderr.Join(b.prefix, path)), name)
}

// load reads the file of tables. Without it they are empty: a damaged file is
// put aside, and one that cannot be read is left alone.
func (t *tables) load(log *slog.Logger) {
	err := t.saver.Store.LoadFile(t.saver.Path)
	var damaged *persistence.SnapshotError
	switch {
	case err == nil || errors.Is(err, fs.ErrNotExist):
	case errors.As(err, &damaged):
		aside := t.saver.Path + ".bad"
		err = errors.Join(err, os.Rename(t.saver.Path, aside))
		log.Error("persistence tables not loaded", "path", t.saver.Path, "aside", aside, "error", err)
	default:
		log.Error("persistence tables not loaded, and not to be saved", "path", t.saver.Path, "error", err)
		t.saver = nil
	}
}

// openTables loads tables that are new, and notes what is to be closed. It
// starts to save them if the runtime runs.
func (rt *Runtime) openTables(all map[string]*tables) {
	log := rt.Logger()
	for _, t := range all {
		rt.mu.Lock()
		known := rt.opened[t]
		rt.mu.Unlock()
		if known || t.remote == nil && t.saver == nil {
			continue
		}
		rt.mu.Lock()
		load := t.saver != nil && !rt.unsaved && !t.hasLoaded()
		rt.mu.Unlock()
		if load {
			t.load(log)
		}
		rt.mu.Lock()
		rt.opened[t] = true
		if rt.background != nil {
			rt.save(t)
		}
		rt.mu.Unlock()
	}
}

// hasLoaded reports whether the tables before have loaded the file.
func (t *tables) hasLoaded() bool {
	return t.before != nil && t.before.saver != nil && t.before.id.now().same(t.id)
}

// save starts to save tables that have a file. The caller has locked mu.
func (rt *Runtime) save(t *tables) {
	if t.saver == nil || rt.unsaved {
		return
	}
	ctx, stop := context.WithCancel(rt.background)
	ended := make(chan struct{})
	t.stop, t.ended = stop, ended
	rt.running.Go(func() {
		defer close(ended)
		defer stop()
		rt.note(t, t.saver.Run(ctx))
	})
}

// note logs the error of the last save.
func (rt *Runtime) note(t *tables, err error) {
	if err != nil {
		rt.Logger().Error("persistence tables not saved", "path", t.saver.Path, "error", err)
	}
}

// end saves tables that have a file for the last time.
func (rt *Runtime) end(t *tables) {
	if t.saver == nil {
		return
	}
	rt.mu.Lock()
	stop, ended, unsaved := t.stop, t.ended, rt.unsaved
	t.stop = nil
	rt.mu.Unlock()
	if stop == nil && unsaved {
		return
	}
	if stop == nil {
		rt.note(t, t.saver.Store.SaveFile(t.saver.Path))
		return
	}
	stop()
	<-ended
}

// endAll ends tables together, and waits for that until ctx ends, and a grace
// longer. What has not been saved then is logged: its file system may hang.
func (rt *Runtime) endAll(ctx context.Context, all []*tables) {
	var ends sync.WaitGroup
	var mu sync.Mutex
	left := map[*tables]bool{}
	for _, t := range all {
		left[t] = true
	}
	for _, t := range all {
		ends.Go(func() {
			rt.end(t)
			mu.Lock()
			defer mu.Unlock()
			delete(left, t)
		})
	}
	if within(ctx, ends.Wait) {
		return
	}
	mu.Lock()
	defer mu.Unlock()
	for t := range left {
		rt.note(t, errHangs)
	}
}

// errHangs is the error of a save that does not end.
var errHangs = errors.New("the file system hangs")

// yieldTime is how long tables may take to be saved, in addition to the grace,
// while another process waits to accept.
const yieldTime = 25 * time.Second

// stopSaving saves tables that have a file, and then leaves the file to another
// process.
func (rt *Runtime) stopSaving() {
	rt.mu.Lock()
	rt.unsaved = true
	opened := slices.Collect(maps.Keys(rt.opened))
	rt.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), yieldTime)
	defer cancel()
	rt.endAll(ctx, opened)
}

// notTaken are the tables that have a file and no entries, while another
// process hands its tables over: that one may know them by another name, or
// none, and has them in the file when it accepts no more.
func (rt *Runtime) notTaken() (all []*tables) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	for t := range rt.opened {
		if rt.unsaved && t.saver != nil && t.saver.Store.Stats().Entries == 0 {
			all = append(all, t)
		}
	}
	return all
}

// resumeSaving starts to save tables again, or for the first time after another
// process has done that. The caller has locked mu.
func (rt *Runtime) resumeSaving() {
	if !rt.unsaved {
		return
	}
	rt.unsaved = false
	if rt.background == nil {
		return
	}
	for t := range rt.opened {
		rt.save(t)
	}
}

// leave ends the files of tables that a configuration has no more: it may have
// them again later. Connections to servers are closed once no request has the
// tables.
func (rt *Runtime) leave(now map[string]*tables) {
	rt.mu.Lock()
	var left []*tables
	for t := range rt.opened {
		if slices.Contains(slices.Collect(maps.Values(now)), t) {
			continue
		}
		left = append(left, t)
		delete(rt.opened, t)
		if handle, ok := t.Tables.(*remoteHandle); ok {
			rt.remotes[handle.Store] = true
			runtime.AddCleanup(handle, rt.closeRemote, handle.Store)
		}
	}
	rt.mu.Unlock()
	for _, t := range left {
		rt.end(t)
	}
}

// closeRemote closes the connections of tables that nobody uses any more.
func (rt *Runtime) closeRemote(s *redisstore.Store) {
	rt.mu.Lock()
	delete(rt.remotes, s)
	rt.mu.Unlock()
	_ = s.Close() // which returns nil
}

// closeTables saves and closes tables, which no request uses any more. It waits
// until ctx ends, and a grace longer.
func (rt *Runtime) closeTables(ctx context.Context) {
	rt.endRelays()
	rt.mu.Lock()
	opened, remotes := rt.opened, rt.remotes
	rt.opened, rt.remotes = map[*tables]bool{}, map[*redisstore.Store]bool{}
	rt.mu.Unlock()
	rt.endAll(ctx, slices.Collect(maps.Keys(opened)))
	for t := range opened {
		if t.remote != nil {
			remotes[t.remote] = true
		}
	}
	for s := range remotes {
		_ = s.Close() // which returns nil
	}
}
