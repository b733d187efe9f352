//go:build linux || darwin

package handover

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/limpetlb/limpet/internal/accept"
	"github.com/limpetlb/limpet/internal/testchild"
	"github.com/limpetlb/limpet/internal/testwait"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// mode is the variable that says what a successor does wrong.
const mode = "LIMPET_TEST_SUCCESSOR"

// answer accepts connections and answers each with a name, until the listener
// ends.
func answer(ln net.Listener, name func() string) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		_, _ = io.WriteString(c, name())
		c.Close()
	}
}

// ask returns who answers at an address.
func ask(t *testing.T, address string) string {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	name, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(name)
}

// hang waits until the process is killed.
func hang() {
	never := make(chan os.Signal, 1)
	signal.Notify(never, syscall.SIGUSR1)
	<-never
}

// succeed is the process that takes over.
func succeed(how string) error {
	s, err := Inherit()
	if err != nil {
		return err
	}
	defer s.Close()
	switch how {
	case "panics":
		panic("as it should")
	case "ends":
		return nil
	case "hangs":
		hang()
	case "garbage":
		_, _ = s.conn.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
		hang()
	case "speaks another version":
		return s.send(frameReady, []byte{version + 1})
	case "fails":
		s.Fail(errors.New("bad\xff file"))
		return nil
	}
	all, err := s.Open("tcp", os.Args[len(os.Args)-1])
	if err != nil || len(all) != 1 || len(s.Unused()) > 0 {
		return fmt.Errorf("%d listeners, %v unused: %w", len(all), s.Unused(), err)
	}
	var text atomic.Value
	text.Store("")
	err = s.Receive(func(message []byte) error {
		text.Store(text.Load().(string) + string(message))
		return nil
	})
	if err != nil {
		return err
	}
	if how == "is killed after ready" {
		if err := s.send(frameReady, []byte{version}); err != nil {
			return err
		}
		return syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	if err := s.Ready(); err != nil {
		return err
	}
	if how == "is killed after go" {
		return syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	go answer(all[0], func() string { return "successor " + text.Load().(string) })
	if err := s.Accepting(); err != nil {
		return err
	}
	if <-s.Main(); s.ReloadAsked() {
		s.Stop()
		s.Stop()
	}
	<-s.Done()
	if err := s.Err(); err != nil {
		return err
	}
	_ = all[0].Close()
	return nil
}

// predecessor serves at an address, and can hand over.
type predecessor struct {
	Predecessor
	address         string
	ln              net.Listener
	sent            int
	yields, resumes int
	changed         chan struct{}
	ended           chan struct{} // when it does not accept
	failSend        error
}

func (p *predecessor) serve(ln net.Listener) {
	ended := make(chan struct{})
	p.ln, p.ended = ln, ended
	go func() {
		defer close(ended)
		answer(ln, func() string { return "predecessor" })
	}()
}

// newPredecessor returns one whose successor is the process that runs this
// test.
func newPredecessor(t *testing.T, how string) *predecessor {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f, err := accept.Duplicate(ln)
	if err != nil {
		t.Fatal(err)
	}
	p := &predecessor{address: ln.Addr().String(), changed: make(chan struct{}, 1)}
	p.serve(ln)
	t.Cleanup(func() {
		f.Close()
		p.ln.Close()
		<-p.ended
	})
	cmd := testchild.Command(t)
	for _, e := range cmd.Env {
		if name, value, _ := strings.Cut(e, "="); os.Getenv(name) != value {
			t.Setenv(name, value)
		}
	}
	t.Setenv(mode, how)
	t.Setenv("WATCHDOG_PID", "1")
	p.Predecessor = Predecessor{
		Path: cmd.Path, Args: append(cmd.Args[1:], "-test.v=false", "-test.timeout=1m", "--", p.address),
		Sockets: []Socket{{"tcp", p.address, f}},
		Changed: p.changed,
		Send: func(send func([]byte) error) error {
			p.sent++
			return errors.Join(p.failSend, send(fmt.Appendf(nil, "%d", p.sent)))
		},
		Yield: func() {
			p.yields++
			p.ln.Close()
			<-p.ended
		},
		Resume: func() error {
			p.resumes++
			ln, err := net.FileListener(f)
			if err == nil {
				p.serve(ln)
			}
			return err
		},
	}
	return p
}

func TestHandover(t *testing.T) {
	if testchild.Running() {
		if err := succeed(os.Getenv(mode)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if os.Getenv("WATCHDOG_PID") != "" || os.Getenv(variable) != "" {
			fmt.Fprintln(os.Stderr, "inherits what concerns the other process")
			os.Exit(1)
		}
		os.Exit(0)
	}
	p := newPredecessor(t, "")
	if got := ask(t, p.address); got != "predecessor" {
		t.Fatalf("before: %s", got)
	}
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p.yields != 1 || p.resumes != 0 || p.Process() == os.Getpid() {
		t.Errorf("yielded %d times, resumed %d times", p.yields, p.resumes)
	}
	if got := ask(t, p.address); got != "successor 12" {
		t.Errorf("after: %s", got)
	}
	if err := p.Promote(true); err != nil {
		t.Fatal(err)
	}
	testwait.Receive(t, p.Stopped(), "word to stop")
	ctx, cancel := context.WithCancel(t.Context())
	continued := make(chan error)
	go func() { continued <- p.Continue(ctx) }()
	p.changed <- struct{}{}
	for ask(t, p.address) != "successor 123" {
	}
	cancel()
	if err := <-continued; err != nil {
		t.Error(err)
	}
	if got := ask(t, p.address); got != "successor 1234" {
		t.Errorf("at the end: %s", got)
	}
	p.Close()
	<-p.exited
	if p.status != nil {
		t.Errorf("the successor has ended with %v", p.status)
	}
}

// TestSuccessorFails: whatever a successor does, its predecessor serves on.
func TestSuccessorFails(t *testing.T) {
	if testchild.Running() {
		if err := succeed(os.Getenv(mode)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	for how, want := range map[string]string{
		"panics":                 "exit status 2",
		"ends":                   "has ended",
		"hangs":                  "in time",
		"garbage":                "has ended",
		"speaks another version": "another version",
		"fails":                  "bad file",
		"is killed after ready":  "killed",
		"is killed after go":     "killed",
	} {
		t.Run(how, func(t *testing.T) {
			p := newPredecessor(t, how)
			if how == "hangs" {
				p.readyLimit = 100 * time.Millisecond
			}
			done := make(chan struct{})
			asked := make(chan int, 1)
			go func() { // a client all the while
				n := 0
				defer func() { asked <- n }()
				for ; ; n++ {
					select {
					case <-done:
						return
					default:
						ask(t, p.address)
					}
				}
			}()
			err := p.Start(t.Context())
			close(done)
			if n := <-asked; n == 0 {
				t.Error("nobody asked")
			}
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("the error is %v, want %q", err, want)
			}
			if got := ask(t, p.address); got != "predecessor" || p.yields != p.resumes {
				t.Errorf("%s serves, yielded %d times, resumed %d times", got, p.yields, p.resumes)
			}
		})
	}
	for name, start := range map[string]func(p *predecessor) error{
		"no such file": func(p *predecessor) error {
			p.Path = "/nowhere/limpet"
			return p.Start(t.Context())
		},
		"the predecessor ends": func(p *predecessor) error {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			return p.Start(ctx)
		},
		"nothing can be sent": func(p *predecessor) error {
			p.failSend = errors.New("too much")
			return p.Start(t.Context())
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPredecessor(t, "hangs")
			if err := start(p); err == nil {
				t.Error("no error")
			}
			if got := ask(t, p.address); got != "predecessor" {
				t.Errorf("%s serves", got)
			}
		})
	}
}

func TestInheritNothing(t *testing.T) {
	if s, err := Inherit(); s != nil || err != nil {
		t.Errorf("%v, %v", s, err)
	}
	for _, value := range []string{"x", "-1", "9999"} {
		t.Setenv(variable, value)
		if s, err := Inherit(); s != nil || err == nil {
			t.Errorf("%s: %v, %v", value, s, err)
		}
	}
}

func TestVersion(t *testing.T) {
	ours, theirs, err := pair()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	defer theirs.Close()
	conn, err := net.FileConn(theirs)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for text, want := range map[string]string{
		`{"Version":1}`: "version 1",
		`{`:             "unexpected end",
	} {
		if err := writeFrame(ours, frameHello, []byte(text)); err != nil {
			t.Fatal(err)
		}
		s := &Successor{conn: conn}
		if err := s.greet(3); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if err := writeFrame(ours, frameGo, nil); err != nil {
		t.Fatal(err)
	}
	if err := (&Successor{conn: conn}).greet(3); !errors.Is(err, errUnexpected) {
		t.Errorf("another frame: %v", err)
	}
}

func TestFrames(t *testing.T) {
	var b bytes.Buffer
	if err := writeFrame(&b, frameMessage, make([]byte, maxPayload+1)); err == nil || b.Len() > 0 {
		t.Errorf("a frame that is too long: %v", err)
	}
	if err := writeFrame(&b, frameMessage, []byte("text")); err != nil {
		t.Fatal(err)
	}
	for n := range b.Len() {
		if _, err := readFrame(bytes.NewReader(b.Bytes()[:n])); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
	if f, err := readFrame(&b); f.kind != frameMessage || string(f.payload) != "text" || err != nil {
		t.Errorf("%v, %v", f, err)
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add([]byte{0, 0, 0, 2, frameHello, '{', '}'})     // a greeting
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, frameMessage}) // longer than any
	f.Add([]byte{0, 0, 0, 9, frameMessage, 1})          // cut
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := readFrame(bytes.NewReader(b))
		if err == nil && len(got.payload) > len(b)-5 {
			t.Errorf("%d bytes of %d", len(got.payload), len(b))
		}
	})
}
