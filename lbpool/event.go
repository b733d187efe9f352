package lbpool

import (
	"context"
	"log/slog"
	"slices"
)

// Event is a change of a server's state.
type Event struct {
	Server *Server // the server
	From   State   // the state it left
	Change Change  // the state it entered, when and why
	// Drained reports that a drain ended: the server is now Disabled. Nobody
	// uses it any more if Open and Bound are 0; otherwise the timeout ended
	// the drain.
	Drained bool
	Open    int // leases in use, if Drained
	Bound   int // persistence entries that name the server, if Drained; 0 if not known
}

// transition is one server's change of state, kept until the lock is released.
type transition struct {
	server *Server
	from   State
	to     Change
}

// changes are what one edit of a pool has changed.
type changes struct {
	servers     []transition
	wasUp, isUp bool // the pool
	up, total   int  // servers
}

// Watch makes the pool call f for each change of a server's state, as it calls
// [Config].OnEvent, until stop is called. A call of f that is under way then
// goes on. Watchers stay when the pool is updated, adopts another one or is
// adopted.
func (p *Pool) Watch(f func(Event)) (stop func()) {
	w := &f
	p.lockLive(func(p *Pool) { p.watchers = append(slices.Clip(p.watchers), w) })
	return func() {
		p.lockLive(func(p *Pool) {
			p.watchers = slices.DeleteFunc(slices.Clone(p.watchers), func(other *func(Event)) bool { return other == w })
		})
	}
}

// watching returns the functions of Watch.
func (p *Pool) watching() []*func(Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.watchers
}

// announce logs the changes and calls OnEvent.
func (st *settings) announce(p *Pool, changed changes) {
	ctx := context.Background()
	for _, c := range changed.servers {
		level := slog.LevelInfo
		switch c.to.State {
		case Down, Ejected:
			if c.from != Disabled && c.from != Removed { // or it has not gone down now
				level = slog.LevelWarn
			}
		case Maintenance:
			if c.from == Unchecked {
				level = slog.LevelWarn // it took requests before
			}
		}
		attrs := []slog.Attr{
			slog.String("pool", p.Name()), slog.String("server", c.server.Name()), slog.String("from", c.from.String()),
			slog.String("to", c.to.State.String()), slog.String("cause", c.to.Cause),
		}
		if c.to.Monitor != "" {
			attrs = append(attrs, slog.String("monitor", c.to.Monitor))
		}
		if c.to.Err != nil {
			attrs = append(attrs, slog.Any("error", c.to.Err))
		}
		st.logger.LogAttrs(ctx, level, "server state changed", attrs...)
		watchers := p.watching()
		if st.onEvent == nil && len(watchers) == 0 {
			continue
		}
		e := Event{Server: c.server, From: c.from, Change: c.to}
		if c.to.Cause == causeDrained {
			e.Drained, e.Open = true, c.server.Open()
			e.Bound = p.bound(c.server)
		}
		if st.onEvent != nil {
			st.onEvent(e)
		}
		for _, f := range watchers {
			(*f)(e)
		}
	}
	attrs := []slog.Attr{slog.String("pool", p.Name()), slog.Int("up", changed.up), slog.Int("servers", changed.total)}
	switch {
	case changed.wasUp && !changed.isUp:
		st.logger.LogAttrs(ctx, slog.LevelError, "pool is down", attrs...)
	case !changed.wasUp && changed.isUp:
		st.logger.LogAttrs(ctx, slog.LevelInfo, "pool is up", attrs...)
	}
}
