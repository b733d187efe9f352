package lua51

import (
	"errors"
	"runtime"
	"testing"
	"time"
)

// TestYield: a script that goes on lets others run more often than the
// scheduler would make it, every ten milliseconds.
func TestYield(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	e := newHost(Limits{Instructions: -1, Time: 40 * time.Millisecond})
	turns := 0
	for range 5 { // the machine may have had other work
		turns = 0
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			for {
				select {
				case <-stop:
					return
				default:
					turns++
					runtime.Gosched()
				}
			}
		}()
		_, err := e.run(t, "while true do end")
		close(stop)
		<-stopped
		if be := (*BudgetError)(nil); !errors.As(err, &be) {
			t.Fatal(err)
		}
		if turns >= 12 {
			return
		}
	}
	t.Errorf("others had %d turns in 40 ms", turns)
}
