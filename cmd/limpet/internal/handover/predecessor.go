package handover

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

const (
	// readyLimit is how long a successor may take until it is ready. It waits
	// for the first health checks for at most a minute of that.
	readyLimit = 2 * time.Minute
	// acceptLimit is how long it may then take until it accepts. Nobody accepts
	// meanwhile.
	acceptLimit = 10 * time.Second
)

// A Predecessor is this process, which hands over to another one.
type Predecessor struct {
	// Path is the file to start.
	Path string
	// Args are its arguments.
	Args []string
	// Sockets are those of the listeners.
	Sockets []Socket

	// Send calls its argument with messages: all that there is, and in later
	// calls what has changed.
	Send func(send func(message []byte) error) error
	// Changed gets a token when there is something to send.
	Changed <-chan struct{}
	// Yield stops accepting, and leaves the sockets open.
	Yield func()
	// Resume accepts again.
	Resume func() error

	readyLimit time.Duration // 0: the constant
	cmd        *exec.Cmd
	conn       net.Conn
	frames     chan frame    // of the successor; closed when it sends no more
	early      []frame       // that have come while another one was awaited
	stopped    chan struct{} // closed when it has sent frameStop
	exited     chan struct{} // closed when it has ended
	status     error         // of its end
	gone       chan struct{} // closed when this process is done with it
}

// Start starts the successor and hands over to it. When it returns nil, the
// successor accepts, and its process is [Predecessor.Process]. Otherwise the
// successor has ended, this process serves as before, and the error says why
// the handover has failed.
func (p *Predecessor) Start(ctx context.Context) (err error) {
	if err := supported(); err != nil {
		return err
	}
	if err := p.launch(); err != nil {
		return err
	}
	yielded := false
	defer func() {
		if err == nil {
			return
		}
		_ = p.cmd.Process.Kill() // before it can see that the socket is closed
		<-p.exited
		p.Close()
		if yielded {
			err = errors.Join(err, p.Resume())
		}
	}()
	limit := readyLimit
	if p.readyLimit > 0 {
		limit = p.readyLimit
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = p.conn.SetWriteDeadline(time.Unix(1, 0)) })
	if err := p.greet(); err != nil {
		return p.why(ctx, err)
	}
	ready, err := p.await(ctx, frameReady)
	if err != nil {
		return p.why(ctx, err)
	}
	if len(ready) != 1 || ready[0] != version {
		return errors.New("the new process speaks another version of the handover")
	}
	stop()
	cancel()
	yielded = true
	p.Yield() // may take long, since it saves
	_ = p.conn.SetWriteDeadline(time.Now().Add(acceptLimit))
	soon, cancel := context.WithTimeout(context.WithoutCancel(ctx), acceptLimit)
	defer cancel()
	err = p.Send(p.message(soon))
	if err == nil {
		err = writeFrame(p.conn, frameGo, nil)
	}
	if err == nil {
		_, err = p.await(soon, frameAccepting)
	}
	return p.why(soon, err)
}

// launch starts the process.
func (p *Predecessor) launch() error {
	ours, theirs, err := pair()
	if err != nil {
		return err
	}
	defer theirs.Close()
	p.cmd = exec.Command(p.Path, p.Args...)
	p.cmd.Stdout, p.cmd.Stderr = os.Stdout, os.Stderr
	const first = 3 // of ExtraFiles
	p.cmd.Env = append(inheritable(os.Environ()), fmt.Sprintf("%s=%d", variable, first))
	p.cmd.ExtraFiles = []*os.File{theirs}
	for _, s := range p.Sockets {
		p.cmd.ExtraFiles = append(p.cmd.ExtraFiles, s.File)
	}
	if err := p.cmd.Start(); err != nil {
		_ = ours.Close()
		return err
	}
	p.conn, p.frames, p.stopped = ours, make(chan frame), make(chan struct{})
	p.exited, p.gone = make(chan struct{}), make(chan struct{})
	go func() {
		p.status = p.cmd.Wait()
		close(p.exited)
	}()
	go p.read()
	return nil
}

// inheritable leaves out what concerns this process alone.
func inheritable(env []string) (kept []string) {
	for _, e := range env {
		switch name, _, _ := strings.Cut(e, "="); name {
		case variable, "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES":
		default:
			kept = append(kept, e)
		}
	}
	return kept
}

func (p *Predecessor) read() {
	defer close(p.frames)
	stopped := false
	for {
		f, err := readFrame(p.conn)
		if err != nil {
			return
		}
		if f.kind == frameStop {
			if !stopped {
				close(p.stopped)
			}
			stopped = true
			continue
		}
		select {
		case p.frames <- f:
		case <-p.gone:
			return
		}
	}
}

// greet sends all that there is.
func (p *Predecessor) greet() error {
	g := greeting{Version: version}
	for _, s := range p.Sockets {
		g.Sockets = append(g.Sockets, place{s.Network, s.Address})
	}
	text, err := json.Marshal(g)
	if err != nil {
		return err
	}
	if err := writeFrame(p.conn, frameHello, text); err != nil {
		return err
	}
	err = p.Send(func(text []byte) error { return writeFrame(p.conn, frameMessage, text) })
	if err != nil {
		return err
	}
	return writeFrame(p.conn, frameSynced, nil)
}

// message returns a function that sends a message after the first ones, and
// waits until it has been applied.
func (p *Predecessor) message(ctx context.Context) func(text []byte) error {
	return func(text []byte) error {
		if err := writeFrame(p.conn, frameMessage, text); err != nil {
			return err
		}
		limited, cancel := context.WithTimeout(ctx, acceptLimit)
		defer cancel()
		for {
			select {
			case f, ok := <-p.frames:
				switch {
				case !ok:
					return errGone
				case f.kind == frameApplied:
					return nil
				}
				p.early = append(p.early, f)
			case <-limited.Done():
				return errors.New("the new process does not apply what it gets")
			}
		}
	}
}

// next returns the next frame of the successor; ok is false if there is none.
func (p *Predecessor) next(ctx context.Context) (f frame, ok bool, err error) {
	for {
		if len(p.early) > 0 {
			f, p.early = p.early[0], p.early[1:]
			return f, true, nil
		}
		select {
		case f, ok := <-p.frames:
			return f, ok, nil
		case <-p.Changed:
			if err := p.Send(p.message(ctx)); err != nil {
				return frame{}, false, err
			}
		case <-ctx.Done():
			return frame{}, false, ctx.Err()
		}
	}
}

// await sends what changes until a frame of a kind comes.
func (p *Predecessor) await(ctx context.Context, kind byte) ([]byte, error) {
	f, ok, err := p.next(ctx)
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, errGone
	case f.kind == kind:
		return f.payload, nil
	case f.kind == frameFailed:
		return nil, fmt.Errorf("the new process has failed: %s", bytes.ToValidUTF8(f.payload, nil))
	}
	return nil, errUnexpected
}

// errGone says that the successor has closed its socket.
var errGone = errors.New("the new process has ended")

// why completes an error of the handover, if there is one: a process that has
// ended says more than a broken socket, and so does one that has sent why.
func (p *Predecessor) why(ctx context.Context, err error) error {
	var network *net.OpError
	switch {
	case err == nil:
		return nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return errors.New("the new process has not become ready in time")
	case ctx.Err() != nil:
		return ctx.Err()
	case !errors.Is(err, errGone) && !errors.As(err, &network):
		return err
	}
	limit := time.NewTimer(time.Second)
	defer limit.Stop()
	for {
		select {
		case f, ok := <-p.frames:
			if ok && f.kind == frameFailed {
				return fmt.Errorf("the new process has failed: %s", bytes.ToValidUTF8(f.payload, nil))
			}
			if ok {
				continue
			}
			select {
			case <-p.exited:
			case <-limit.C:
				return errGone
			}
			if p.status != nil {
				return fmt.Errorf("%w: %w", errGone, p.status)
			}
			return errGone
		case <-limit.C:
			return err
		}
	}
}

// Terminate asks the successor to end, if it has not ended.
func (p *Predecessor) Terminate() { _ = p.cmd.Process.Signal(syscall.SIGTERM) }

// Reload asks the successor to read its configuration again.
func (p *Predecessor) Reload() { _ = p.cmd.Process.Signal(syscall.SIGHUP) }

// Promote says that the service manager knows the successor now: from then on
// only that one speaks to it. reload says that a reload was asked for which
// this process has not done. It is called after Start, and before Continue. An
// error means that the successor has ended.
func (p *Predecessor) Promote(reload bool) error {
	payload := []byte{0}
	if reload {
		payload[0] = 1
	}
	_ = p.conn.SetWriteDeadline(time.Now().Add(acceptLimit))
	return writeFrame(p.conn, frameMain, payload)
}

// Stopped is closed when the successor is asked to end: then this process
// should end as well.
func (p *Predecessor) Stopped() <-chan struct{} { return p.stopped }

// Process is the process ID of the successor.
func (p *Predecessor) Process() int { return p.cmd.Process.Pid }

// Continue sends what changes until ctx ends, after Start, and what has changed
// by then. The error says why it stopped before; the successor goes on without.
func (p *Predecessor) Continue(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			go func() {
				for range p.frames { // so that frameStop is not behind what nobody takes
				}
			}()
		}
	}()
	send := func() error {
		_ = p.conn.SetWriteDeadline(time.Now().Add(acceptLimit))
		return p.Send(p.message(context.WithoutCancel(ctx)))
	}
	for {
		select {
		case <-p.Changed:
			if err := send(); err != nil {
				return err
			}
		case _, ok := <-p.frames:
			if !ok {
				return errGone
			}
		case <-ctx.Done():
			return send()
		}
	}
}

// Close closes the socket to the successor, which then knows that nothing
// follows.
func (p *Predecessor) Close() {
	close(p.gone)
	_ = p.conn.Close()
	for range p.frames { // until read has ended
	}
}
