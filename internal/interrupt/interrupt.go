// Package interrupt ends the wait for work that may hang: opening a named pipe
// that nobody writes, or a file of a network file system whose server is gone.
// The system ends such a call late or never, and nothing else can.
package interrupt

import "context"

// Wait calls do, and returns what it returns. If ctx ends before, Wait returns
// the cause at once, see [context.Cause], and do goes on by itself until it
// returns: what it returns then is lost. So do should hold nothing that others
// wait for, and look at ctx before it changes something. If ctx has ended
// already, do is not called.
func Wait[T any](ctx context.Context, do func() (T, error)) (T, error) {
	if ctx.Done() == nil {
		return do()
	}
	var none T
	if ctx.Err() != nil {
		return none, context.Cause(ctx)
	}
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := do()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		return none, context.Cause(ctx)
	}
}
