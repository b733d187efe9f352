package interrupt

import (
	"context"
	"errors"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errWork, errCause = errors.New("work"), errors.New("cause")

func TestWait(t *testing.T) {
	for name, ctx := range map[string]context.Context{"never ends": context.Background(), "may end": t.Context()} {
		got, err := Wait(ctx, func() (int, error) { return 1, errWork })
		if got != 1 || !errors.Is(err, errWork) {
			t.Errorf("%s: %d, %v", name, got, err)
		}
	}
}

// Wait does not wait for work that hangs, and does not begin after the end.
func TestWaitEnds(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	began, release, ended := make(chan bool), make(chan bool), make(chan bool)
	go func() {
		<-began
		cancel(errCause)
	}()
	got, err := Wait(ctx, func() (int, error) {
		defer close(ended)
		close(began)
		<-release
		return 1, nil
	})
	if got != 0 || !errors.Is(err, errCause) {
		t.Errorf("%d, %v", got, err)
	}
	close(release)
	<-ended
	if _, err := Wait(ctx, func() (int, error) { panic("called") }); !errors.Is(err, errCause) {
		t.Error(err)
	}
}
