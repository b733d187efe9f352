package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"reflect"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/persistence"
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
	s := &service{file: f.Arg(0), log: slog.New(slog.NewTextHandler(errs, nil)), timeout: shutdownTimeout}
	return s.run(ctx, errs)
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

// A service is a virtual service that follows its configuration file.
type service struct {
	file string
	log  *slog.Logger
	vs   *limpet.VirtualService
	kept kept

	timeout   time.Duration     // for requests under way at the end
	transport http.RoundTripper // nil if it is the library's
	cert      atomic.Pointer[tls.Certificate]
}

// load reads the configuration. If it has a fault, nothing changes.
func (s *service) load() (*builder, error) {
	b, trial, err := prepare(s.file, s.kept, s.log)
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
	if b.cert != nil {
		s.cert.Store(b.cert)
	}
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
	first := b.atStart()
	if first.overTLS {
		server.TLSConfig = &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.cert.Load(), nil }}
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
		if first.overTLS {
			served <- server.ServeTLS(s.vs.Listener(ln), "", "")
		} else {
			served <- server.Serve(s.vs.Listener(ln))
		}
		cancel()
	})
	s.log.Info("serving", "address", ln.Addr().String(), "vs", cmp.Or(b.Name, "limpet"))

	for {
		select {
		case <-hangup:
			s.reload(first)
		case <-ctx.Done():
			deadline, end := context.WithTimeout(running, s.timeout)
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

// reload reads the configuration anew.
func (s *service) reload(first atStart) {
	b, err := s.load()
	if err != nil {
		s.log.Error("configuration not changed", "file", s.file, "error", err.Error())
		return
	}
	s.log.Info("configuration changed", "file", s.file)
	now := b.atStart()
	for _, f := range []struct {
		name string
		same bool
	}{
		{"listen", now.listen == first.listen},
		{"tls", now.overTLS == first.overTLS},
		{"tables", reflect.DeepEqual(now.tables, first.tables)},
	} {
		if !f.same {
			s.log.Warn("change takes effect after a restart", "file", s.file, "field", f.name)
		}
	}
}

// atStart is what a configuration says once and for all.
type atStart struct {
	listen  string
	overTLS bool
	tables  persistence.Options
}

func (b *builder) atStart() atStart { return atStart{b.listen(), b.TLS != nil, b.Tables} }
