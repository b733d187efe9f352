package config

import (
	"context"
	"time"
)

// A turn is had by one at a time, like a lock whose wait can end: what has it
// may hang. It needs a capacity of one.
type turn chan struct{}

// take waits for the turn, or until ctx ends; then it returns the cause.
func (t turn) take(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// pass ends the turn.
func (t turn) pass() { <-t }

// grace is how long what ends may take after a deadline that others have used
// up, such as a last save.
const grace = 5 * time.Second

// within reports whether wait returns before ctx ends, or the grace after that.
// If not, wait goes on by itself.
func within(ctx context.Context, wait func()) bool {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		wait()
	}()
	select {
	case <-ended:
		return true
	case <-ctx.Done():
	}
	limit := time.NewTimer(grace)
	defer limit.Stop()
	select {
	case <-ended:
		return true
	case <-limit.C:
		return false
	}
}
