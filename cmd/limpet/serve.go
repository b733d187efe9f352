package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/config"
)

// flushTimeout is how long the last lines of the log have to be written.
const flushTimeout = time.Second

func newServe() *cobra.Command {
	return &cobra.Command{
		Use:   "serve CONFIG",
		Short: "serve the services of a configuration",
		Long: "Serve the services of a configuration until SIGTERM or SIGINT. SIGHUP reads it again. The log is on standard error. " +
			"The status is 1 if it cannot start, 3 if requests under way were cut off.",
		Args:                  arguments(1, 1),
		ValidArgsFunction:     configurationFiles,
		RunE:                  running(serve),
		DisableFlagsInUseLine: true,
	}
}

// serve runs a virtual service until ctx ends.
func serve(ctx context.Context, args []string, _, errs io.Writer) int {
	// Whoever reads the log may go away: that must end the log, and not the
	// service.
	signal.Ignore(syscall.SIGPIPE)
	// Nor may a reader that stops, or a full disk, hold up requests or the end.
	queue := limpet.NewLogQueue(errs)
	defer func() {
		flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
		defer cancel()
		_ = queue.Close(flush) // what is not written by then is lost, and there is nobody to tell
	}()
	log := slog.New(queue.Handler(func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, nil) }))
	s := &service{file: args[0], log: log, after: time.After}
	return s.run(ctx, queue)
}

// run serves until ctx ends, and returns the exit status.
func (s *service) run(ctx context.Context, errs io.Writer) int {
	err := s.serve(ctx)
	switch {
	case err == nil:
		return ok
	case errors.Is(err, context.DeadlineExceeded): // of Shutdown alone
		complain(errs, err)
		return cutOff
	}
	complain(errs, err)
	return failed
}

// A service is what a configuration file describes, and follows that file.
type service struct {
	file  string
	log   *slog.Logger
	after func(time.Duration) <-chan time.Time
}

func (s *service) serve(ctx context.Context) error {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)

	f, err := config.Load(ctx, s.file)
	if err != nil {
		return err
	}
	rt, err := f.Build(config.Options{Logger: s.log})
	if err != nil {
		return err
	}
	listeners := rt.Listeners()
	sockets := make([]net.Listener, len(listeners))
	for i, l := range listeners {
		if sockets[i], err = net.Listen(l.Network, l.Address); err != nil {
			for _, ln := range sockets[:i] {
				_ = ln.Close()
			}
			return err
		}
	}
	asked := ctx // to end
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { _ = rt.Run(running) }) // nobody else runs it
	served := make(chan error, len(listeners))
	for i, l := range listeners {
		wg.Go(func() {
			served <- l.Serve(sockets[i])
			cancel()
		})
		about := slog.String("vs", f.Services()[0])
		if len(listeners) > 1 || len(f.Services()) > 1 {
			about = slog.String("listener", l.Name)
		}
		s.log.Info("serving", slog.String("address", sockets[i].Addr().String()), about)
	}

	for {
		select {
		case <-hangup:
			s.reload(ctx, rt)
		case <-ctx.Done():
			delay, timeout := rt.DrainTimes()
			if asked.Err() != nil { // else a listener has failed
				s.log.Info("draining", slog.Duration("delay", delay), slog.Duration("timeout", timeout))
				rt.Drain()
				if delay > 0 {
					<-s.after(delay)
				}
			}
			deadline, end := context.WithTimeout(running, timeout)
			defer end()
			err := rt.Shutdown(deadline)
			for range listeners {
				if e := <-served; !errors.Is(e, http.ErrServerClosed) {
					err = e
				}
			}
			s.log.Info("stopped")
			return err
		}
	}
}

// reload reads the configuration anew.
func (s *service) reload(ctx context.Context, rt *config.Runtime) {
	f, err := config.Load(ctx, s.file)
	var changes config.Changes
	if err == nil {
		changes, err = rt.Update(f)
	}
	if err != nil {
		for _, fault := range faults(err) {
			s.log.Error("configuration not changed", "file", s.file, "error", fault.Error())
		}
		return
	}
	s.log.Info("configuration changed", "file", s.file, "changed", len(changes.Live)+len(changes.Fresh))
	for _, field := range changes.Fresh {
		s.log.Warn("change begins anew", "file", s.file, "field", field)
	}
	for _, field := range changes.Restart {
		s.log.Warn("change takes effect after a restart", "file", s.file, "field", field)
	}
}

// faults takes apart the error of a configuration.
func faults(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}
