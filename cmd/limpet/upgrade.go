package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/limpetlb/limpet/cmd/limpet/internal/handover"
	"github.com/limpetlb/limpet/cmd/limpet/internal/systemd"
	"github.com/limpetlb/limpet/config"
)

// programFile returns the path by which this program was started, so that an
// upgrade starts what is there later; empty if it cannot be found.
func programFile() string {
	path, err := exec.LookPath(os.Args[0])
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		path, _ = os.Executable() // empty with an error
	}
	return path
}

// A successor is a process that has taken the place of this one.
type successor struct {
	*handover.Predecessor
	of *config.Handover
}

// inheritedNetwork is the network of sockets that the process has inherited.
const inheritedNetwork = "fd"

// upgrade starts the program anew and hands over to it. It returns nil if that
// fails; the log says why, and the service goes on.
func (s *service) upgrade(ctx context.Context, rt *config.Runtime) *successor {
	began := time.Now()
	h, err := rt.HandOver(ctx)
	if err != nil {
		s.log.Error("upgrade refused", "error", err)
		return nil
	}
	s.log.Info("upgrading", slog.String("program", s.program))
	p := &handover.Predecessor{
		Path: s.program, Args: s.command[1:],
		Send: h.Send, Changed: h.Changed(), Yield: h.Yield, Resume: h.Resume,
	}
	for _, socket := range h.Sockets() {
		if socket.Network != inheritedNetwork {
			p.Sockets = append(p.Sockets, handover.Socket(socket))
		}
	}
	for _, f := range s.sockets.Files() { // a later configuration may have those that this one has not
		p.Sockets = append(p.Sockets, handover.Socket{Network: inheritedNetwork, Address: f.Name(), File: f})
	}
	if err := p.Start(ctx); err != nil {
		h.Close()
		s.log.Error("upgrade failed: serving on", "error", err)
		return nil
	}
	for _, socket := range h.Sockets() {
		_ = socket.File.Close() // the successor decides which stay open
	}
	s.log.Info("upgraded", slog.Int("process", p.Process()), slog.Duration("took", time.Since(began).Round(time.Millisecond)))
	return &successor{p, h}
}

// promote lets only the successor speak to the service manager. reload says
// that the manager has asked for a reload that this process has not done.
func (s *service) promote(next *successor, reload bool) {
	s.tell(systemd.Main(next.Process()))
	_ = next.Promote(reload) // if it has ended, leave will notice
}

// leave lets requests under way end, while another process serves: for as long
// as the configuration says or, when ctx ends or the other process is asked to
// end, as a process that ends has. It passes on what asks for a reload. finish
// is as in end.
func (s *service) leave(ctx, running context.Context, rt *config.Runtime, next *successor, hangup <-chan os.Signal, finish func()) error {
	timeout := next.of.Timeout()
	s.log.Info("draining", slog.Duration("timeout", timeout))
	deadline, cancel := context.WithTimeout(running, timeout)
	defer cancel()
	ended := make(chan struct{})
	again := make(chan os.Signal, 1) // signals after that which ends ctx
	defer signal.Stop(again)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-hangup:
				next.Reload()
			case <-ended:
				return
			}
		}
	})
	wg.Go(func() {
		select {
		case <-ended:
			return
		case <-ctx.Done():
		case <-next.Stopped():
		}
		signaled := ctx.Err() != nil // else the manager may signal this process as well
		signal.Notify(again, os.Interrupt, syscall.SIGTERM)
		_, timeout := rt.DrainTimes()
		s.log.Info("draining", slog.Duration("timeout", timeout)) // which is shorter now
		limit := s.after(timeout)
		for {
			select {
			case <-ended:
				return
			case <-again:
				if !signaled {
					signaled = true
					continue
				}
			case <-limit:
			}
			cancel()
			return
		}
	})
	sending, stop := context.WithCancel(running)
	wg.Go(func() {
		if err := next.Continue(sending); err != nil {
			next.of.Lost()
			s.log.Warn("the new process has not got all entries", "error", err)
		}
	})
	err := rt.Shutdown(deadline)
	s.exportTraces(deadline)
	close(ended)
	stop()
	wg.Wait()
	next.Close()
	next.of.Close()
	s.log.Info("stopped")
	finish()
	if errors.Is(err, context.Canceled) {
		err = context.DeadlineExceeded // it was cut off as well
	}
	return err
}
