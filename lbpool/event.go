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

// announce logs the changes and calls OnEvent.
func (st *settings) announce(p *Pool, changed []transition) {
	for _, c := range changed {
		level := slog.LevelInfo
		if (c.from == Up || c.from == Unchecked) && (c.to.State == Down || c.to.State == Ejected) || c.from == Unchecked && c.to.State == Maintenance {
			level = slog.LevelWarn // it took requests before
		}
		st.logger.LogAttrs(context.Background(), level, "server state changed",
			slog.String("pool", p.Name()), slog.String("server", c.server.Name()), slog.String("from", c.from.String()),
			slog.String("to", c.to.State.String()), slog.String("cause", c.to.Cause),
			slog.String("monitor", c.to.Monitor), slog.Any("error", c.to.Err))
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
}
