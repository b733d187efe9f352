package config

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/persistence"
)

var errEnd = errors.New("the end")

// An update that hangs, here in what a program adds, keeps neither a handover
// nor the end of the runtime.
func TestUpdateHangs(t *testing.T) {
	release, hung := make(chan struct{}), make(chan struct{}, 1)
	hang := false // set before an update begins
	s := build(t, map[string]string{"limpet.yaml": hello}, Options{Edit: func(string, *limpet.Config) {
		if hang {
			hung <- struct{}{}
			<-release
		}
	}})
	hang = true
	if err := os.WriteFile(filepath.Join(s.dir, "limpet.yaml"), []byte(hello+"name: other\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	reloaded := make(chan bool, 2)
	go func() { reloaded <- s.Reload(ctx) }()
	testwait.Receive(t, hung, "update")
	go func() { reloaded <- s.Reload(ctx) }() // waits for the other one
	cancel(errEnd)
	for range 2 {
		if testwait.Receive(t, reloaded, "end of a reload") {
			t.Error("accepted")
		}
	}
	if _, err := s.HandOver(ctx); !errors.Is(err, errEnd) {
		t.Errorf("HandOver: %v", err)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	close(release)
	if err := s.updating.take(t.Context()); err != nil {
		t.Fatal(err)
	}
	if vs, ok := s.Service("limpet"); !ok || vs == nil {
		t.Error("an update after the end")
	}
}

// A hangingIssuer does not end.
type hangingIssuer struct{ release chan struct{} }

func (hangingIssuer) Manage([]ACME, *slog.Logger) {}

func (i hangingIssuer) Run(context.Context) error { <-i.release; return nil }

func (hangingIssuer) Certificate(string, string) *tls.Certificate { return nil }

func (hangingIssuer) TLSChallenge(string) *tls.Certificate { return nil }

func (hangingIssuer) HTTPChallenge(http.ResponseWriter, *http.Request) bool { return false }

// Work in the background that hangs, and a save that does, get a grace when the
// context of Shutdown has ended, and the log says so.
func TestEndHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := newCounter()
		f, err := Parse(t.Context(), "text", []byte(hello), nil)
		if err != nil {
			t.Fatal(err)
		}
		issuer := hangingIssuer{make(chan struct{})}
		rt, err := f.Build(Options{Issuer: issuer, Logger: slog.New(lines)})
		if err != nil {
			t.Fatal(err)
		}
		hanging := &tables{saver: &persistence.Saver{}, stop: func() {}, ended: make(chan struct{})}
		rt.opened[hanging], rt.unsaved = true, true
		running, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- rt.Run(running) }()
		synctest.Wait()

		began := time.Now()
		deadline, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := rt.Shutdown(deadline); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != time.Second+grace {
			t.Errorf("Shutdown took %v", took)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != time.Second+2*grace {
			t.Errorf("Shutdown and Run took %v", took)
		}
		for _, want := range []string{"ERROR persistence tables not saved", "ERROR background work has not ended: a file system may hang"} {
			if n := lines.of(want); n != 1 {
				t.Errorf("%d times %q", n, want)
			}
		}
		close(issuer.release)
		close(hanging.ended)
	})
}
