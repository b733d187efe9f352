package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/cmd/limpet/internal/systemd"
	"github.com/limpetlb/limpet/config"
)

// flushTimeout is how long the last lines of the log have to be written.
const flushTimeout = time.Second

// serve runs a virtual service until ctx ends.
func serve(ctx context.Context, args []string, _, errs io.Writer) int {
	f := flags("serve [flags] CONFIG", errs)
	watch := f.Bool("watch", false, "read CONFIG anew when one of its files changes, as process.watch does")
	if status, done := parse(f, args, 1, 1); done {
		return status
	}
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
	s := &service{file: f.Arg(0), watch: *watch, log: log, after: time.After}
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
}

func (s *service) serve(ctx context.Context) error {
	hangup, reopen := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	if len(reopenSignals) > 0 { // or it would be all signals
		signal.Notify(reopen, reopenSignals...)
		defer signal.Stop(reopen)
	}

	sockets := systemd.Inherit()
	s.tell(systemd.Status("starting"))
	f, err := config.Load(ctx, s.file)
	if ctx.Err() != nil {
		return nil // asked to stop before it has begun
	}
	if err != nil {
		return err
	}
	rt, err := f.Build(config.Options{Logger: s.log, Inherited: sockets.Open, Watch: s.watch})
	if err != nil {
		return err
	}
	s.log = rt.Logger()
	if err := rt.Listen(); err != nil {
		_ = rt.Shutdown(ctx) // there are no requests, but lines of logs
		return err
	}
	for _, name := range sockets.Unused() {
		s.log.Warn("inherited socket not used: no listener has the address", "address", "fd:"+name)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	wg.Go(func() { _ = rt.Run(running) }) // nobody else runs it
	ready, served := make(chan struct{}), make(chan error, 1)
	wg.Go(func() { served <- rt.Serve(func() { close(ready) }) })

	failure := s.supervise(ctx, rt, signals{hangup, reopen}, ready, served)
	return errors.Join(failure, s.end(running, rt, failure == nil))
}

// signals ask for a reload, and for new files of logs.
type signals struct{ hangup, reopen <-chan os.Signal }

// supervise follows signals and tells the service manager about it, until ctx ends
// or the runtime cannot serve.
func (s *service) supervise(ctx context.Context, rt *config.Runtime, asked signals, ready <-chan struct{}, served <-chan error) error {
	alive, err := systemd.Watchdog()
	s.tell(err)
	var beat <-chan time.Time
	if alive > 0 {
		ticker := time.NewTicker(alive / 2)
		defer ticker.Stop()
		beat = ticker.C
	}
	status := func(accepted bool) string {
		text := fmt.Sprintf("serving at %d addresses", len(rt.Listeners()))
		if !accepted {
			text += ", with the configuration from before: that of now has faults"
		}
		return text
	}
	var reloaded chan bool // says whether a configuration was accepted; nil without a reload under way
	again := false         // another one was asked for meanwhile
	reload := func() {
		s.tell(systemd.Reloading())
		done := make(chan bool, 1)
		reloaded = done
		go func() { done <- rt.Reload(ctx) }()
	}
	var begin <-chan os.Signal // signals for a reload, once the service is ready
	for {
		select {
		case <-ready:
			ready, begin = nil, asked.hangup
			s.tell(systemd.Ready(status(true)))
		case <-asked.reopen:
			s.reopen(rt)
		case <-begin:
			s.reopen(rt)
			if again = reloaded != nil; !again {
				reload()
			}
		case accepted := <-reloaded:
			reloaded = nil
			s.tell(systemd.Ready(status(accepted)))
			if again {
				again = false
				reload()
			}
		case <-beat:
			if rt.Progress() {
				s.tell(systemd.Alive())
			}
		case err := <-served:
			return err
		case <-ctx.Done():
			return nil
		}
	}
}

// end lets requests under way end, and ends the runtime. With drain, it asks
// clients to leave first. A second signal cuts off what is left.
func (s *service) end(running context.Context, rt *config.Runtime, drain bool) error {
	signals := make(chan os.Signal, 1) // the first one was delivered before
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	delay, timeout := rt.DrainTimes()
	s.tell(systemd.Stopping("draining"))
	deadline, cancel := context.WithCancelCause(running)
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
	err := rt.Shutdown(deadline)
	stop()
	<-watched
	if context.Cause(deadline) == errAgain { //nolint:errorlint // it is this one
		err = errAgain
	}
	s.log.Info("stopped")
	return err
}

// reopen opens the files of logs anew.
func (s *service) reopen(rt *config.Runtime) {
	for _, fault := range faults(rt.Reopen()) {
		s.log.Error("log not reopened", "error", fault.Error())
	}
}

// faults takes apart the error of a configuration.
func faults(err error) []error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

// tell logs why the service manager could not be told.
func (s *service) tell(err error) {
	if err != nil {
		s.log.Warn("service manager not told", "error", err)
	}
}
