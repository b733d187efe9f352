package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
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
	"github.com/limpetlb/limpet/lbpool"
)

// shutdownTimeout is how long requests have to end when the server stops.
const shutdownTimeout = 30 * time.Second

// serve runs a virtual service until ctx ends.
func serve(ctx context.Context, args []string, _, errs io.Writer) int {
	f := flags("serve CONFIG", errs)
	if status, done := parse(f, args, 1, 1); done {
		return status
	}
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
}

// load reads the configuration. If it has a fault, nothing changes.
func (s *service) load() (*config, error) {
	c, err := readConfig(s.file)
	if err != nil {
		return nil, err
	}
	cfg, now, err := c.build(filepath.Dir(s.file), s.kept, s.log)
	if err != nil {
		return nil, err
	}
	trial, err := limpet.New(cfg)
	if err != nil {
		return nil, err
	}
	if s.vs == nil {
		s.vs, s.kept = trial, now
		return c, nil
	}
	// Pools that stay keep what they know of their servers. Nothing can fail
	// any more: the pools and the configuration as a whole have been tried.
	b := builder{config: c, log: s.log, now: now}
	for i, p := range cfg.Pools {
		old := s.kept.pools[p.Name()]
		if old == nil {
			continue
		}
		if err := old.Update(b.pool(i, c.Pools[i])); err != nil {
			return nil, err
		}
		now.pools[p.Name()] = old
	}
	if cfg.Pools, cfg.PoolGroups, err = withPools(cfg, now.pools, c); err != nil {
		return nil, err
	}
	if err := s.vs.Update(cfg); err != nil {
		return nil, err
	}
	s.kept = now
	return c, nil
}

// withPools puts pools in the place of those of the same names.
func withPools(cfg limpet.Config, pools map[string]*lbpool.Pool, c *config) ([]*lbpool.Pool, []*lbpool.Group, error) {
	list := make([]*lbpool.Pool, len(cfg.Pools))
	for i, p := range cfg.Pools {
		list[i] = pools[p.Name()]
	}
	groups := make([]*lbpool.Group, len(cfg.PoolGroups))
	for i, g := range cfg.PoolGroups {
		gc := lbpool.GroupConfig{Name: g.Name(), MinServers: c.PoolGroups[i].MinServers, Members: g.Members()}
		for j, m := range gc.Members {
			gc.Members[j].Pool = pools[m.Pool.Name()]
		}
		var err error
		if groups[i], err = lbpool.NewGroup(gc); err != nil {
			return nil, nil, err
		}
	}
	return list, groups, nil
}

func (s *service) serve(ctx context.Context) error {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)

	c, err := s.load()
	if err != nil {
		return err
	}
	server := limpet.NewServer(s.vs)
	server.ErrorLog = slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)
	if c.TLS != nil {
		dir := builder{dir: filepath.Dir(s.file)}
		cert, err := tls.LoadX509KeyPair(dir.path(c.TLS.Certificate), dir.path(c.TLS.Key))
		if err != nil {
			return fmt.Errorf("tls: %w", err)
		}
		server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}}
	}
	ln, err := net.Listen("tcp", c.listen())
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
		if c.TLS != nil {
			served <- server.ServeTLS(s.vs.Listener(ln), "", "")
		} else {
			served <- server.Serve(s.vs.Listener(ln))
		}
		cancel()
	})
	s.log.Info("serving", "address", ln.Addr().String(), "vs", c.Name)

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
