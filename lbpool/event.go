package lbpool

import (
	"context"
	"log/slog"
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

// announce logs the changes and calls OnEvent.
func (st *settings) announce(p *Pool, changed changes) {
	ctx := context.Background()
	for _, c := range changed.servers {
		level := slog.LevelInfo
		if (c.from == Up || c.from == Unchecked) && (c.to.State == Down || c.to.State == Ejected) || c.from == Unchecked && c.to.State == Maintenance {
			level = slog.LevelWarn // it took requests before
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
		if st.onEvent == nil {
			continue
		}
		e := Event{Server: c.server, From: c.from, Change: c.to}
		if c.to.Cause == causeDrained {
			e.Drained, e.Open = true, c.server.Open()
			e.Bound = p.bound(c.server)
		}
		st.onEvent(e)
	}
	attrs := []slog.Attr{slog.String("pool", p.Name()), slog.Int("up", changed.up), slog.Int("servers", changed.total)}
	switch {
	case changed.wasUp && !changed.isUp:
		st.logger.LogAttrs(ctx, slog.LevelError, "pool is down", attrs...)
	case !changed.wasUp && changed.isUp:
		st.logger.LogAttrs(ctx, slog.LevelInfo, "pool is up", attrs...)
	}
}
