package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/cmd/limpet/internal/acme"
	"github.com/limpetlb/limpet/cmd/limpet/internal/handover"
	"github.com/limpetlb/limpet/cmd/limpet/internal/otlp"
	"github.com/limpetlb/limpet/cmd/limpet/internal/systemd"
	"github.com/limpetlb/limpet/config"
	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/internal/interrupt"
)

// flushTimeout is how long the last lines of the log have to be written.
const flushTimeout = time.Second

// tracesTimeout is how long the last spans have to be exported.
const tracesTimeout = 5 * time.Second

// serveOptions are those of the command serve.
type serveOptions struct {
	watch bool
}

func newServe() *cobra.Command {
	var o serveOptions
	c := &cobra.Command{
		Use:   "serve [flags] CONFIG",
		Short: "serve the services of a configuration",
		Long: "Serve the services of a configuration until SIGTERM or SIGINT. SIGHUP reads it again. The log is on standard error unless CONFIG says otherwise. " +
			"The status is 1 if it cannot start, 3 if requests under way were cut off, or after a second signal.",
		Args:              arguments(1, 1),
		ValidArgsFunction: configurationFiles,
		RunE:              running(o.serve),
	}
	c.Flags().BoolVar(&o.watch, "watch", false, "read CONFIG again when one of its files changes, as process.watch does")
	return c
}

// serve runs a virtual service until ctx ends.
func (o *serveOptions) serve(ctx context.Context, args []string, _, errs io.Writer) int {
	// Whoever reads the log may go away: that must end the log, and not the
	// service.
	signal.Ignore(syscall.SIGPIPE)
	// Nor may a reader that stops, or a full disk, delay requests or the end.
	queue := limpet.NewLogQueue(errs)
	defer func() {
		flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
		defer cancel()
		_ = queue.Close(flush) // what is not written by then is lost, and nobody reads the log any more
	}()
	log := slog.New(queue.Handler(func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, nil) }))
	s := &service{file: args[0], watch: o.watch, log: log, after: time.After, command: os.Args, traces: otlp.New(release)}
	s.program = programFile()
	return s.run(ctx, queue)
}

// run serves until ctx ends, and returns the exit status.
func (s *service) run(ctx context.Context, errs io.Writer) int {
	err := s.serve(ctx)
	switch {
	case err == nil:
		return ok
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, errAgain): // of Shutdown alone
		complain(errs, err)
		return cutOff
	}
	complain(errs, err)
	return failed
}

// errAgain is the error of an end that was asked for a second time, and did not
// wait for requests under way.
var errAgain = errors.New("stopped at once, as the second signal asked")

// A service is what a configuration file describes, and follows that file.
type service struct {
	file  string
	watch bool
	log   *slog.Logger
	after func(time.Duration) <-chan time.Time

	traces  *otlp.Exporter
	program string   // the file that an upgrade starts
	command []string // its name and arguments
	before  *handover.Successor
	sockets *systemd.Sockets // that this process has inherited, or those before it
}

func (s *service) serve(ctx context.Context) (err error) {
	hangup, reopen, upgrade := make(chan os.Signal, 1), make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	if len(reopenSignals) > 0 { // or it would be all signals
		signal.Notify(reopen, reopenSignals...)
		defer signal.Stop(reopen)
	}
	if len(upgradeSignals) > 0 {
		signal.Notify(upgrade, upgradeSignals...)
		defer signal.Stop(upgrade)
	}

	var wg sync.WaitGroup
	defer wg.Wait()
	if s.before, err = handover.Inherit(); err != nil {
		return err
	}
	defer func() {
		if s.before != nil {
			s.before.Close()
		}
	}()
	rt, err := s.begin(ctx)
	if err != nil && s.before != nil {
		s.before.Fail(err)
	}
	if rt == nil {
		return err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	finish := func() {
		stop()
		wg.Wait()
	}
	defer finish()
	wg.Go(func() { _ = rt.Run(running) }) // nobody else runs it
	ready, served := make(chan struct{}), make(chan error, 1)
	wg.Go(func() { served <- rt.Serve(func() { close(ready) }) })

	next, failure := s.supervise(ctx, rt, signals{hangup, reopen, upgrade}, ready, served)
	if next != nil {
		return s.leave(ctx, running, rt, next, hangup, finish)
	}
	return errors.Join(failure, s.end(running, rt, failure == nil, finish))
}

// begin loads the configuration and opens the sockets, or takes them and what
// else there is from the process before. The runtime is nil if there is an
// error, or if ctx ends before.
func (s *service) begin(ctx context.Context) (*config.Runtime, error) {
	s.sockets = systemd.Inherit()
	if s.before == nil { // else the process before speaks to the service manager
		s.tell(systemd.Status("starting"))
	} else {
		for _, socket := range s.before.Take(inheritedNetwork) {
			s.sockets.Add(socket.File)
		}
	}
	f, err := config.Load(ctx, s.file)
	if ctx.Err() != nil {
		return nil, nil //nolint:nilerr // asked to stop before it has begun
	}
	if err != nil {
		return nil, err
	}
	options := config.Options{Logger: s.log, Inherited: s.sockets.Open, Watch: s.watch, Issuer: acme.New(filepath.Join(stateDirectory(), "acme")), Traces: s.traces}
	if s.before != nil {
		options.HandedOver, options.BeforeAccept = s.before.Open, s.before.Ready
	}
	rt, err := interrupt.Wait(ctx, func() (*config.Runtime, error) { return f.Build(options) })
	switch {
	case ctx.Err() != nil && rt == nil:
		return nil, nil // likewise, while it read tables or opened logs
	case err != nil:
		return nil, err
	}
	s.log = rt.Logger()
	if s.before != nil {
		err = s.before.Receive(rt.TakeOver)
	}
	if err == nil {
		err = rt.Listen()
	}
	if err != nil {
		_ = rt.Shutdown(ctx) // there are no requests, but lines of logs
		return nil, err
	}
	for _, name := range s.sockets.Unused() {
		s.log.Warn("inherited socket not used: no listener has the address", "address", "fd:"+name)
	}
	if s.before != nil {
		for _, address := range s.before.Unused() {
			s.log.Warn("socket of the process before not used: no listener has the address", "address", address)
		}
	}
	return rt, nil
}

// stateDirectory is where the command keeps what it needs after a restart: the
// directory of its unit, or that which the unit of the package has.
func stateDirectory() string {
	if dirs := filepath.SplitList(os.Getenv("STATE_DIRECTORY")); len(dirs) > 0 {
		return dirs[0]
	}
	return "/var/lib/limpet"
}

// signals ask for a reload, for new files of logs, and for an upgrade.
type signals struct{ hangup, reopen, upgrade <-chan os.Signal }

// supervise follows signals and reports to the service manager, until ctx ends,
// the runtime cannot serve, or another process has taken its place.
func (s *service) supervise(ctx context.Context, rt *config.Runtime, asked signals, ready <-chan struct{}, served <-chan error) (*successor, error) {
	upgrading, cancel := context.WithCancel(ctx)
	defer cancel()
	alive, err := systemd.Watchdog()
	s.tell(err)
	var beat <-chan time.Time
	if alive > 0 {
		ticker := time.NewTicker(alive / 2)
		defer ticker.Stop()
		beat = ticker.C
	}
	// A reload and an upgrade are never under way at the same time: whichever
	// is asked for second begins when the first has ended.
	var reloaded chan bool       // says whether a configuration was accepted; nil without a reload under way
	var upgraded chan *successor // gets nil if an upgrade has failed; nil without one under way
	again, later := false, false // a reload, or an upgrade, was asked for meanwhile
	accepted, failed := true, false
	// Only the main process speaks to the service manager, which ignores
	// others.
	speaks, serves, reloading := s.before == nil, false, false
	report := func() {
		if !speaks || !serves {
			return
		}
		if reloaded != nil || again {
			if !reloading {
				s.tell(systemd.Reloading())
			}
			reloading = true
			return
		}
		reloading = false
		text := fmt.Sprintf("serving at %d addresses", len(rt.Listeners()))
		if !accepted {
			text += ", with the configuration from before: that of now has faults"
		}
		if failed {
			text += ", and the last upgrade has failed"
		}
		s.tell(systemd.Ready(text))
	}
	reload := func() {
		done := make(chan bool, 1)
		reloaded, again = done, false
		go func() { done <- rt.Reload(ctx) }()
		report()
	}
	replaceNow := func() {
		if speaks {
			s.tell(systemd.Status("upgrading"))
		}
		failed = false
		done := make(chan *successor, 1)
		upgraded, later = done, false
		go func() { done <- s.upgrade(upgrading, rt) }()
	}
	var begin, replace <-chan os.Signal // signals for a reload and an upgrade, once the service is ready
	var followed, promoted <-chan struct{}
	if s.before != nil {
		promoted = s.before.Main()
	}
	wait := func() *successor {
		if upgraded == nil {
			return nil
		}
		next := <-upgraded // soon, since ctx has ended or the runtime has failed
		if next != nil {
			s.promote(next, again)
		}
		return next
	}
	for {
		select {
		case <-ready:
			ready, begin, replace = nil, asked.hangup, asked.upgrade
			if s.before != nil {
				followed = s.before.Done()
				if err := s.before.Accepting(); err != nil {
					s.log.Warn("the process before was not told", "error", err)
				}
			}
			serves = true
			report()
		case <-promoted:
			promoted, speaks = nil, true
			if alive > 0 {
				s.tell(systemd.Alive()) // the process before has done so until now
			}
			if again = again || s.before.ReloadAsked(); again && reloaded == nil {
				s.reopen(ctx, rt)
				reload()
			} else {
				report()
			}
		case <-followed:
			followed = nil
			_ = rt.TakeOver(nil) // never fails
			if err := s.before.Err(); err != nil {
				s.log.Warn("entries of the process before are missing", "error", err)
			}
			s.log.Info("the process before has ended")
		case <-replace:
			switch {
			case upgraded != nil:
				s.log.Warn("upgrade refused: one is under way")
			case reloaded != nil:
				later = true
			default:
				replaceNow()
			}
		case next := <-upgraded:
			if upgraded = nil; next != nil {
				s.promote(next, again)
				if ctx.Err() != nil { // the signal was for the service
					next.Terminate()
				}
				return next, nil
			}
			if failed = true; again {
				reload()
			} else {
				report()
			}
		case <-asked.reopen:
			s.reopen(ctx, rt)
		case <-begin:
			s.reopen(ctx, rt)
			if again = reloaded != nil || upgraded != nil; again {
				report()
			} else {
				reload()
			}
		case accepted = <-reloaded:
			reloaded = nil
			if again {
				reload()
				continue
			}
			report()
			if later {
				replaceNow()
			}
		case <-beat:
			if speaks && rt.Progress() {
				s.tell(systemd.Alive())
			}
		case err := <-served:
			cancel()
			return wait(), err
		case <-ctx.Done():
			next := wait()
			if next != nil { // the signal was for the service
				next.Terminate()
			}
			return next, nil
		}
	}
}

// end lets requests under way end, and ends the runtime. With drain, it asks
// clients to leave first. A second signal cuts off what is left. A process
// before this one that still drains does the same: end waits for it, since the
// service manager may kill what is left when this process ends. finish ends
// what runs in the background, while there is still time for that.
func (s *service) end(running context.Context, rt *config.Runtime, drain bool, finish func()) error {
	signals := make(chan os.Signal, 1) // the first one was delivered before
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	delay, timeout := rt.DrainTimes()
	s.tell(systemd.Stopping("draining"))
	deadline, cancel := context.WithCancelCause(context.WithoutCancel(running))
	defer cancel(nil)
	if drain {
		s.log.Info("draining", slog.Duration("delay", delay), slog.Duration("timeout", timeout))
		rt.Drain()
		if delay > 0 {
			select {
			case <-s.after(delay):
			case <-signals:
				cancel(errAgain)
			}
		}
	}
	deadline, stop := context.WithTimeout(deadline, timeout)
	defer stop()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-signals:
			cancel(errAgain)
		case <-deadline.Done():
		}
	}()
	if s.before != nil {
		s.before.Stop()
	}
	err := rt.Shutdown(deadline)
	if s.before != nil {
		select {
		case <-s.before.Done():
		case <-deadline.Done():
			err = errors.Join(err, deadline.Err())
		}
	}
	s.exportTraces(deadline)
	s.log.Info("stopped")
	finish()
	if context.Cause(deadline) == errAgain { //nolint:errorlint // it is this one
		err = errAgain
	}
	stop()
	<-watched
	return err
}

// exportTraces exports what is left, for a part of the time that requests have
// to end.
func (s *service) exportTraces(deadline context.Context) {
	ctx, cancel := context.WithTimeout(deadline, tracesTimeout)
	defer cancel()
	s.traces.Close(ctx)
}

// reopen opens the files of logs anew, unless ctx ends before.
func (s *service) reopen(ctx context.Context, rt *config.Runtime) {
	_, err := interrupt.Wait(ctx, func() (struct{}, error) { return struct{}{}, rt.Reopen() })
	if ctx.Err() != nil {
		return
	}
	for _, fault := range fielderr.Leaves(err) {
		s.log.Error("log not reopened", "error", fault.Error())
	}
}

// tell logs the error of a report to the service manager, if there is one.
func (s *service) tell(err error) {
	if err != nil {
		s.log.Warn("service manager not told", "error", err)
	}
}
