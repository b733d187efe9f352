package handover

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
)

// A Successor is this process, which takes the place of another one.
type Successor struct {
	conn    net.Conn
	places  []place
	goes    chan struct{} // closed when the predecessor says go
	ended   chan struct{} // closed when nothing follows
	failure error         // why, before that
	main    chan struct{} // closed when this process is the main one
	reload  bool          // what that says, before that

	writing sync.Mutex
	wg      sync.WaitGroup

	mu    sync.Mutex
	files []*os.File // of the places; nil: opened, or closed
}

// Inherit returns this process as a successor; nil if there is no predecessor.
// Child processes inherit nothing of it. It is called once in a process.
func Inherit() (*Successor, error) {
	text := os.Getenv(variable)
	if text == "" {
		return nil, nil
	}
	_ = os.Unsetenv(variable) // the name is valid
	first, err := strconv.Atoi(text)
	if err != nil || first < 0 {
		return nil, fmt.Errorf("%s=%q is not a descriptor", variable, text)
	}
	conn, err := inherited(first)
	if err != nil {
		return nil, fmt.Errorf("%s=%d: %w", variable, first, err)
	}
	s := &Successor{conn: conn, goes: make(chan struct{}), ended: make(chan struct{}), main: make(chan struct{})}
	if err := s.greet(first + 1); err != nil {
		s.Fail(err)
		s.Close()
		return nil, err
	}
	return s, nil
}

// greet reads the first frame. first is the descriptor of the first socket.
func (s *Successor) greet(first int) error {
	f, err := readFrame(s.conn)
	if err != nil {
		return err
	}
	if f.kind != frameHello {
		return errUnexpected
	}
	var g greeting
	if err := json.Unmarshal(f.payload, &g); err != nil {
		return err
	}
	if g.Version != version {
		return errVersion(g.Version)
	}
	s.places = g.Sockets
	for i, p := range g.Sockets {
		s.files = append(s.files, inheritedFile(first+i, p.Address))
	}
	return nil
}

// Open returns listeners for the sockets of an address, each once.
func (s *Successor) Open(network, address string) (all []net.Listener, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, p := range s.places {
		if s.files[i] == nil || p != (place{network, address}) {
			continue
		}
		ln, err := net.FileListener(s.files[i])
		_ = s.files[i].Close()
		s.files[i] = nil
		if err != nil {
			for _, ln := range all {
				_ = ln.Close()
			}
			return nil, err
		}
		all = append(all, ln)
	}
	return all, nil
}

// Take returns the sockets of a network, which are the caller's from then on.
func (s *Successor) Take(network string) (sockets []Socket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, p := range s.places {
		if p.Network == network && s.files[i] != nil {
			sockets = append(sockets, Socket{p.Network, p.Address, s.files[i]})
			s.files[i] = nil
		}
	}
	return sockets
}

// Unused returns the addresses of sockets that nobody has opened.
func (s *Successor) Unused() (addresses []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, f := range s.files {
		if f != nil {
			addresses = append(addresses, s.places[i].Address)
		}
	}
	return addresses
}

// Receive calls apply with messages until all that the predecessor knew has
// come. Later messages follow, on another goroutine, until Done is closed. An
// error of apply ends the handover.
func (s *Successor) Receive(apply func(message []byte) error) error {
	for {
		switch f, err := readFrame(s.conn); {
		case err != nil:
			return err
		case f.kind == frameMessage:
			if err := apply(f.payload); err != nil {
				return err
			}
		case f.kind == frameSynced:
			s.wg.Go(func() {
				defer close(s.ended)
				s.failure = s.follow(apply)
				if !s.isMain() { // nobody else is
					close(s.main)
				}
			})
			return nil
		default:
			return errUnexpected
		}
	}
}

// follow reads what comes after the first messages.
func (s *Successor) follow(apply func(message []byte) error) error {
	for goes := s.goes; ; {
		switch f, err := readFrame(s.conn); {
		case err != nil:
			return err
		case f.kind == frameMessage:
			if err := apply(f.payload); err != nil {
				return err
			}
			if err := s.send(frameApplied, nil); err != nil {
				return err
			}
		case f.kind == frameGo && goes != nil:
			close(goes)
			goes = nil
		case f.kind == frameMain && len(f.payload) == 1 && !s.isMain():
			s.reload = f.payload[0] != 0
			close(s.main)
		default:
			return errUnexpected
		}
	}
}

// isMain reports whether the predecessor has said so.
func (s *Successor) isMain() bool {
	select {
	case <-s.main:
		return true
	default:
		return false
	}
}

// Main is closed when this process is the one that the service manager knows,
// or nothing follows from the predecessor.
func (s *Successor) Main() <-chan struct{} { return s.main }

// ReloadAsked reports whether the predecessor was asked for a reload that is up
// to this process. It is called after Main is closed.
func (s *Successor) ReloadAsked() bool { return s.reload }

// Stop asks the predecessor to end, as this process does. Done is closed when
// it has.
func (s *Successor) Stop() { _ = s.send(frameStop, nil) }

// Ready reports to the predecessor that this process can accept, and waits
// until it may. All messages that were sent before have been applied then.
func (s *Successor) Ready() error {
	if err := s.send(frameReady, []byte{version}); err != nil {
		return err
	}
	select {
	case <-s.goes:
		return nil
	case <-s.ended:
	}
	select {
	case <-s.goes: // and then it ended
		return nil
	default:
		return fmt.Errorf("the process before has ended: %w", s.failure)
	}
}

// Accepting reports to the predecessor that this process accepts. It closes
// sockets that nobody has opened, since clients would wait there for ever, and
// removes the files of Unix sockets among them: the predecessor leaves these
// alone.
func (s *Successor) Accepting() error {
	s.release(true)
	return s.send(frameAccepting, nil)
}

// release closes sockets that nobody has opened, and may remove their files.
func (s *Successor) release(remove bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, f := range s.files {
		if f == nil {
			continue
		}
		if remove {
			removeFile(f)
		}
		_ = f.Close()
		s.files[i] = nil
	}
}

// removeFile removes the file of a Unix socket; other sockets have none.
func removeFile(socket *os.File) {
	ln, err := net.FileListener(socket)
	if err != nil {
		return
	}
	if ln, ok := ln.(*net.UnixListener); ok {
		ln.SetUnlinkOnClose(true)
	}
	_ = ln.Close()
}

// Fail reports to the predecessor why this process ends.
func (s *Successor) Fail(err error) { _ = s.send(frameFailed, []byte(err.Error())) }

func (s *Successor) send(kind byte, payload []byte) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	return writeFrame(s.conn, kind, payload)
}

// Done is closed when nothing follows any more: the predecessor has ended, or
// what it said was wrong, which Err returns.
func (s *Successor) Done() <-chan struct{} { return s.ended }

// Err returns why nothing follows, after Done is closed; nil if the predecessor
// has ended.
func (s *Successor) Err() error {
	if errors.Is(s.failure, io.EOF) || errors.Is(s.failure, net.ErrClosed) {
		return nil
	}
	return s.failure
}

// Close closes the socket to the predecessor, and sockets that nobody has
// opened. It may be called again.
func (s *Successor) Close() {
	_ = s.conn.Close()
	s.wg.Wait()
	s.release(false)
}
