package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/limpetlb/limpet"
)

// shutdownTimeout is how long requests have to end when the server stops.
const shutdownTimeout = 30 * time.Second

// serve runs a virtual service until ctx ends.
func serve(ctx context.Context, args []string, _, errs io.Writer) int {
	f := flags("serve CONFIG", errs)
	if status, done := parse(f, args, 1, 1); done {
		return status
	}
	// Whoever reads the log may go away: that must end the log, and not the
	// service.
	signal.Ignore(syscall.SIGPIPE)
	s := &service{file: f.Arg(0), log: slog.New(slog.NewTextHandler(errs, nil))}
	if err := s.serve(ctx); err != nil {
		complain(errs, err)
		return failed
	}
	return ok
}

// A service is a virtual service that follows its configuration file.
type service struct {
	file string
	log  *slog.Logger
	vs   *limpet.VirtualService
	kept kept

	transport http.RoundTripper // nil if it is the library's
}

// load reads the configuration. If it has a fault, nothing changes.
func (s *service) load() (*builder, error) {
	c, err := readConfig(s.file)
	if err != nil {
		return nil, err
	}
	b, err := c.build(filepath.Dir(s.file), s.kept, s.log)
	if err != nil {
		return nil, err
	}
	trial, err := b.tryOut()
	if err != nil {
		return nil, err
	}
	if s.vs == nil {
		s.vs = trial
	} else {
		// Nothing can fail any more: the pools and the configuration as a
		// whole have been tried.
		if err := b.update(); err != nil {
			return nil, err
		}
		if err := s.vs.Update(b.cfg); err != nil {
			return nil, err
		}
		if s.transport != nil {
			closeIdle(s.transport)
		}
	}
	s.kept, s.transport = b.now, b.cfg.Transport
	return b, nil
}

func (s *service) serve(ctx context.Context) error {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)

	b, err := s.load()
	if err != nil {
		return err
	}
	server := limpet.NewServer(s.vs)
	overTLS := b.TLS != (tlsFiles{})
	if overTLS {
		cert, err := b.TLS.load(b)
		if err != nil {
			return b.from.locate("tls", err)
		}
		server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}}
	}
	ln, err := net.Listen("tcp", b.listen())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { _ = s.vs.Run(running) }) // nobody else runs it
	served := make(chan error, 1)
	wg.Go(func() {
		if overTLS {
			served <- server.ServeTLS(s.vs.Listener(ln), "", "")
		} else {
			served <- server.Serve(s.vs.Listener(ln))
		}
		cancel()
	})
	s.log.Info("serving", "address", ln.Addr().String(), "vs", b.Name)

	for {
		select {
		case <-hangup:
			s.reload()
		case <-ctx.Done():
			deadline, end := context.WithTimeout(running, shutdownTimeout)
			defer end()
			err := s.vs.Shutdown(deadline, server)
			if e := <-served; !errors.Is(e, http.ErrServerClosed) {
				err = e
			}
			s.log.Info("stopped")
			return err
		}
	}
}

// reload reads the configuration anew. What it says of the listener counts at
// the next start.
func (s *service) reload() {
	if _, err := s.load(); err != nil {
		s.log.Error("configuration not changed", "file", s.file, "error", err.Error())
		return
	}
	s.log.Info("configuration changed", "file", s.file)
}
