package config

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/limpetlb/limpet/internal/accesslog"
	"github.com/limpetlb/limpet/internal/bounds"
	"github.com/limpetlb/limpet/internal/enumtext"
	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/internal/logfile"
	"github.com/limpetlb/limpet/internal/logqueue"
)

// outputConfig says where the lines of a log go.
type outputConfig struct {
	// Output is "stderr", "stdout" or the name of a file, to which lines are
	// appended; stderr unless given.
	Output string
	// QueueLines is how many lines wait while the output stands still. What is
	// beyond that is dropped, and counted. Logs with the same output share the
	// largest queue. 0 means 65,536.
	QueueLines int `default:"65536" min:"512" max:"16777216"`
	// QueueBytes is how long these lines are together. 0 means 16 MiB.
	QueueBytes int `unit:"bytes" default:"16MiB" min:"64KiB" max:"1GiB"`
}

const (
	toStderr = "stderr"
	toStdout = "stdout"
)

// logsConfig is the log of the process.
type logsConfig struct {
	outputConfig
	// Format is text or json; text unless given.
	Format logFormat `implied:"text"`
	// Level is the least level of lines that are written: debug, info, warn or
	// error; info unless given.
	Level logLevel `implied:"info"`
}

// accessLogConfig is the log of records.
type accessLogConfig struct {
	outputConfig
	// Format is text, json, combined, vcombined, avi or off. It is json in a
	// file with several services, and text in others, unless given.
	Format accesslog.Format
	// Classes are the levels of records.
	Classes classesConfig
	// Fields are added to lines: userAgent, referer, query, tls, requestBytes.
	// Lines in the formats combined and vcombined have the first two.
	Fields []accesslog.Field
}

// classesConfig has the level of each class of records. The level of records of
// failed scripts is error.
type classesConfig struct {
	// Significant is warn unless given.
	Significant logLevel
	// Filtered is info unless given.
	Filtered logLevel
	// Other is info unless given.
	Other logLevel
}

// A logFormat is the format of the process's log. Zero means the default.
type logFormat uint8

const (
	textFormat logFormat = iota + 1
	jsonFormat
)

var logFormats = []string{textFormat: "text", jsonFormat: "json"}

// String returns the name.
func (f logFormat) String() string { return enumtext.String(f, logFormats) }

// MarshalText returns the name.
func (f logFormat) MarshalText() ([]byte, error) { return enumtext.Marshal(f, logFormats) }

// UnmarshalText reads a name.
func (f *logFormat) UnmarshalText(text []byte) error { return enumtext.Unmarshal(f, text, logFormats) }

// A logLevel is a level. Zero means the default.
type logLevel uint8

const (
	debugLevel logLevel = iota + 1
	infoLevel
	warnLevel
	errorLevel
)

var logLevels = []string{debugLevel: "debug", infoLevel: "info", warnLevel: "warn", errorLevel: "error"}

// String returns the name.
func (l logLevel) String() string { return enumtext.String(l, logLevels) }

// MarshalText returns the name.
func (l logLevel) MarshalText() ([]byte, error) { return enumtext.Marshal(l, logLevels) }

// UnmarshalText reads a name.
func (l *logLevel) UnmarshalText(text []byte) error { return enumtext.Unmarshal(l, text, logLevels) }

// or returns the level for log/slog, unless it is the default.
func (l logLevel) or(byDefault slog.Level) slog.Level {
	switch l {
	case debugLevel:
		return slog.LevelDebug
	case infoLevel:
		return slog.LevelInfo
	case warnLevel:
		return slog.LevelWarn
	case errorLevel:
		return slog.LevelError
	}
	return byDefault
}

// levels returns the levels for the service.
func (c classesConfig) levels() accesslog.Levels {
	byDefault := accesslog.DefaultLevels
	return accesslog.Levels{
		Significant: c.Significant.or(byDefault.Significant), Filtered: c.Filtered.or(byDefault.Filtered), Other: c.Other.or(byDefault.Other),
	}
}

// A logPlan is what a file says about logs, with their outputs as paths of the
// system. A nil log stands for none in the file.
type logPlan struct {
	process  *logsConfig
	shared   *accessLogConfig            // of services that have none, and of listeners
	services map[string]*accessLogConfig // by the keys of members
	paths    map[string]string           // where the file names each output
}

// planLogs checks what the file says about logs.
func (b *builder) planLogs(a *assembly) {
	doc := b.file.doc
	a.logs = logPlan{services: map[string]*accessLogConfig{}, paths: map[string]string{}}
	if doc.Logs != nil {
		c := *doc.Logs
		b.output(&a.logs, &c.outputConfig, "logs")
		a.logs.process = &c
	}
	a.logs.shared = b.accessLog(&a.logs, doc.AccessLog, "accessLog")
	for _, m := range a.services {
		if m.config != nil && m.config.AccessLog != nil {
			a.logs.services[m.key] = m.accessLog(&a.logs, m.config.AccessLog, "accessLog")
		}
	}
}

// accessLog checks a log of records at a path, and returns it with its
// defaults; nil for nil.
func (b *builder) accessLog(p *logPlan, c *accessLogConfig, path string) *accessLogConfig {
	if c == nil {
		return nil
	}
	made := *c
	if made.Format == 0 {
		if made.Format = accesslog.Text; len(b.file.doc.Services) > 0 {
			made.Format = accesslog.JSON
		}
	}
	if made.Format.Apache() {
		for i, f := range made.Fields {
			if f == accesslog.TLS || f == accesslog.RequestBytes {
				b.fault(fmt.Errorf("%v is not in lines of the format %v; use json, text or avi", f, made.Format), "%s.fields[%d]", path, i)
			}
		}
		made.Fields = append([]accesslog.Field{accesslog.UserAgent, accesslog.Referer}, made.Fields...)
	}
	b.output(p, &made.outputConfig, path)
	return &made
}

// output checks an output at a path, and gives it the defaults and the path of
// the system.
func (b *builder) output(p *logPlan, c *outputConfig, path string) {
	var faults fielderr.List
	bounds.Check("", *c, &faults)
	bounds.SetDefaults(c)
	switch c.Output {
	case "":
		c.Output = toStderr
	case toStderr, toStdout:
	default:
		_, is := b.file.files.(*osFiles)
		switch {
		case strings.ContainsAny(c.Output, "\r\n\x00"):
			faults.Addf("output", nil, "%w", errNotAName)
		case !is && !filepath.IsAbs(c.Output):
			faults.Addf("output", inFile{}, "not an absolute name, which a configuration that is no file needs")
		default:
			file := b.pathOf(c.Output, path+".output")
			if abs, err := filepath.Abs(file); err == nil {
				file = abs
			}
			c.Output = file
		}
	}
	b.fault(faults.Err(), "%s", path)
	if _, known := p.paths[c.Output]; !known {
		p.paths[c.Output] = fielderr.Join(b.prefix, path) + ".output"
	}
}

// A sink is an output with the lines that wait for it.
type sink struct {
	queue *logqueue.Queue
	file  *logfile.File // nil for a standard output
}

// openSink opens an output.
func openSink(output string) (*sink, error) {
	switch output {
	case toStderr:
		return &sink{queue: logqueue.New(os.Stderr)}, nil
	case toStdout:
		return &sink{queue: logqueue.New(os.Stdout)}, nil
	}
	file, err := logfile.Open(output)
	if err != nil {
		return nil, err
	}
	return &sink{queue: logqueue.New(file), file: file}, nil
}

// flushTimeout is how long the last lines of a log have to be written.
const flushTimeout = time.Second

// end writes what waits, if that takes no longer than flushTimeout, by a method
// of the queue.
func (s *sink) end(how func(*logqueue.Queue, context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	_ = how(s.queue, ctx) // what is not written by then is lost, and nobody reads the log any more
	if s.file != nil {
		_ = s.file.Close()
	}
}

// logs are those of a runtime.
type logs struct {
	process *slog.Logger // whose lines follow the configuration
	target  *atomic.Pointer[slog.Handler]
	given   slog.Handler // that of Options.Logger

	mu       sync.Mutex
	running  bool
	sinks    map[string]*sink // by output
	shared   *accesslog.Handler
	services map[string]*accesslog.Handler // by the keys of members
	closing  sync.WaitGroup                // of sinks that no log has any more
}

func newLogs(given *slog.Logger) *logs {
	l := &logs{target: new(atomic.Pointer[slog.Handler]), sinks: map[string]*sink{}, services: map[string]*accesslog.Handler{}}
	l.given = slog.DiscardHandler
	if given != nil {
		l.given = given.Handler()
	}
	l.target.Store(&l.given)
	h := &followingHandler{target: l.target}
	l.process = slog.New(h)
	l.shared = accesslog.NewHandler(h)
	return l
}

// service returns the logger of a service.
func (l *logs) service(key string) *slog.Logger {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.services[key]
	if h == nil {
		h = accesslog.NewHandler(l.process.Handler())
		l.services[key] = h
	}
	return slog.New(h)
}

// A logChange is a plan whose outputs are open.
type logChange struct {
	plan  logPlan
	sinks map[string]*sink
	fresh []*sink // opened for it
}

// openLogs opens the outputs of a plan, and notes those that cannot be opened.
// Nothing is written yet.
func (b *builder) openLogs(a *assembly) *logChange {
	c := &logChange{plan: a.logs, sinks: map[string]*sink{}}
	if b.options.Offline || b.lost {
		c.plan = logPlan{}
		return c
	}
	// Opening may hang, and one update at a time changes the outputs.
	b.logs.mu.Lock()
	open := b.logs.sinks
	b.logs.mu.Unlock()
	for output, path := range a.logs.paths {
		if !a.logs.uses(output) {
			continue
		}
		s := open[output]
		if s == nil {
			var err error
			if s, err = openSink(output); err != nil {
				b.located(path, nil, err, false)
				continue
			}
			c.fresh = append(c.fresh, s)
		}
		c.sinks[output] = s
	}
	return c
}

// uses reports whether lines go to an output.
func (p *logPlan) uses(output string) bool {
	if p.process != nil && p.process.Output == output {
		return true
	}
	for _, c := range p.accessLogs() {
		if c.Format != accesslog.Off && c.Output == output {
			return true
		}
	}
	return false
}

// accessLogs are all logs of records.
func (p *logPlan) accessLogs() (all []*accessLogConfig) {
	if p.shared != nil {
		all = append(all, p.shared)
	}
	for _, c := range p.services {
		all = append(all, c)
	}
	return all
}

// abandon closes what was opened for a change that does not come.
func (c *logChange) abandon() {
	for _, s := range c.fresh {
		s.end((*logqueue.Queue).Close)
	}
}

// apply makes all logs what a change says, for the services with these keys.
// Outputs that no log has any more are closed when their lines are written.
func (l *logs) apply(c *logChange, services []*member) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.limit(c)
	inProcess := l.given
	var ofProcess *accesslog.Log // for records without a log of their own; nil: as they are
	if p := c.plan.process; p != nil {
		inProcess = p.handler(c.sinks[p.Output].queue)
		if p.Format == jsonFormat {
			ofProcess = accesslog.NewLog(accesslog.Log{
				Format: accesslog.JSON, Levels: accesslog.DefaultLevels, Least: p.Level.or(slog.LevelInfo), Queue: c.sinks[p.Output].queue,
			})
		}
	}
	shared := c.log(c.plan.shared, l.process.Handler())
	shared = cmp.Or(shared, ofProcess)
	if l.running {
		for _, s := range c.sinks {
			s.queue.Start()
		}
	}
	l.target.Store(&inProcess)
	l.shared.Use(shared)
	now := map[string]*accesslog.Handler{}
	for _, m := range services {
		if h := l.services[m.key]; h != nil {
			h.Use(cmp.Or(c.log(c.plan.services[m.key], l.process.Handler()), shared))
			now[m.key] = h
		}
	}
	for key, h := range l.services {
		if now[key] == nil {
			h.Use(shared) // requests of a service that is gone may still end
		}
	}
	old := l.sinks
	l.sinks, l.services = c.sinks, now
	for output, s := range old {
		switch {
		case c.sinks[output] != nil:
		case l.running:
			l.closing.Go(func() { s.end((*logqueue.Queue).Close) })
		default:
			s.end((*logqueue.Queue).Close)
		}
	}
}

// limit sets the sizes of queues: the largest that logs want.
func (l *logs) limit(c *logChange) {
	lines, size := map[string]int{}, map[string]int{}
	add := func(o outputConfig) {
		lines[o.Output], size[o.Output] = max(lines[o.Output], o.QueueLines), max(size[o.Output], o.QueueBytes)
	}
	if c.plan.process != nil {
		add(c.plan.process.outputConfig)
	}
	for _, a := range c.plan.accessLogs() {
		add(a.outputConfig)
	}
	for output, s := range c.sinks {
		s.queue.Limit(lines[output], size[output])
	}
}

// handler returns the handler of the process's log.
func (c *logsConfig) handler(q *logqueue.Queue) slog.Handler {
	o := &slog.HandlerOptions{Level: c.Level.or(slog.LevelInfo)}
	return q.Handler(func(w io.Writer) slog.Handler {
		if c.Format == jsonFormat {
			return jsonHandler(w, o.Level)
		}
		return slog.NewTextHandler(w, o)
	})
}

// jsonHandler writes times and durations as lines of records have them.
func jsonHandler(w io.Writer, level slog.Leveler) slog.Handler {
	return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		switch a.Value.Kind() {
		case slog.KindTime:
			return slog.String(a.Key, a.Value.Time().UTC().Format(accesslog.TimeFormat))
		case slog.KindDuration:
			return slog.Int64(a.Key+"_us", a.Value.Duration().Microseconds())
		}
		return a
	}})
}

// log makes the log of records of a configuration; nil for nil. The line about
// dropped ones goes to process if the format has no place for it.
func (c *logChange) log(a *accessLogConfig, process slog.Handler) *accesslog.Log {
	switch {
	case a == nil:
		return nil
	case a.Format == accesslog.Off:
		return accesslog.NewLog(accesslog.Log{Format: accesslog.Off})
	}
	q := c.sinks[a.Output].queue
	switch {
	case a.Format.Apache():
		elsewhere := process.WithAttrs([]slog.Attr{slog.String("output", a.Output)})
		q.Told(func(io.Writer) slog.Handler { return elsewhere })
	case a.Format != accesslog.Text:
		q.Told(func(w io.Writer) slog.Handler { return jsonHandler(w, slog.LevelInfo) })
	}
	return accesslog.NewLog(accesslog.Log{
		Format: a.Format, Fields: accesslog.FieldsOf(a.Fields), Levels: a.Classes.levels(), Least: slog.LevelDebug, Queue: q,
	})
}

// start begins to write.
func (l *logs) start() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running = true
	for _, s := range l.sinks {
		s.queue.Start()
	}
}

// stop writes what waits. Further lines wait for the next start.
func (l *logs) stop() {
	var ends sync.WaitGroup
	l.mu.Lock()
	l.running = false
	for _, s := range l.sinks {
		ends.Go(func() { s.end((*logqueue.Queue).Stop) })
	}
	l.mu.Unlock()
	ends.Wait()
	l.closing.Wait()
}

// flush writes what waits, unless it is being written.
func (l *logs) flush() {
	l.mu.Lock()
	running := l.running
	l.mu.Unlock()
	if !running {
		l.stop()
	}
}

// reopen opens files anew.
func (l *logs) reopen() error {
	l.mu.Lock()
	open := l.sinks
	l.mu.Unlock()
	var faults []error
	for _, s := range open { // which may hang; one that is closed meanwhile stays so
		if s.file != nil {
			faults = append(faults, s.file.Reopen())
		}
	}
	return errors.Join(faults...)
}

// A followingHandler passes records on to the handler that is in force.
type followingHandler struct {
	target  *atomic.Pointer[slog.Handler]
	derived []func(slog.Handler) slog.Handler // what WithAttrs and WithGroup have added
}

// Enabled implements [slog.Handler].
func (h *followingHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return (*h.target.Load()).Enabled(ctx, level)
}

// Handle implements [slog.Handler].
func (h *followingHandler) Handle(ctx context.Context, r slog.Record) error {
	for {
		p := h.target.Load()
		target := *p
		for _, derive := range h.derived {
			target = derive(target)
		}
		err := target.Handle(ctx, r)
		if !errors.Is(err, logqueue.ErrClosed) || h.target.Load() == p {
			return err
		}
		// Another one has taken its place meanwhile.
	}
}

// WithAttrs implements [slog.Handler].
func (h *followingHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.with(func(to slog.Handler) slog.Handler { return to.WithAttrs(attrs) })
}

// WithGroup implements [slog.Handler].
func (h *followingHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	return h.with(func(to slog.Handler) slog.Handler { return to.WithGroup(name) })
}

func (h *followingHandler) with(derive func(slog.Handler) slog.Handler) slog.Handler {
	return &followingHandler{h.target, append(slices.Clip(h.derived), derive)}
}
