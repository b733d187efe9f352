package lbpool

import (
	"context"
	"fmt"
	"log/slog"
)

// EventKind is what an Event tells of.
type EventKind uint8

const (
	// EventState means that a server has entered another state.
	EventState EventKind = iota
	// EventDrained means that a drain is over and the server disabled; it entered another state too. Nobody uses it any
	// more if Open and Bound are 0, else its time was over.
	EventDrained
)

// String returns "state" or "drained".
func (k EventKind) String() string {
	switch k {
	case EventState:
		return "state"
	case EventDrained:
		return "drained"
	}
	return fmt.Sprintf("EventKind(%d)", uint8(k))
}

// Event is something that has happened to a server.
type Event struct {
	Kind   EventKind // what happened
	Server *Server   // to whom
	From   State     // the state it left
	Change Change    // the state it entered, when and why
	Open   int       // leases in use, of EventDrained
	Bound  int       // persistence entries that point to the server, of EventDrained; 0 if not known
}

// transition is one server's change of state, kept until the lock is released.
type transition struct {
	server *Server
	from   State
	to     Change
}

// announce logs what has changed and tells the owner.
func (st *settings) announce(p *Pool, changed []transition) {
	for _, c := range changed {
		level := slog.LevelInfo
		if (c.from == Up || c.from == Unchecked) && (c.to.State == Down || c.to.State == Ejected) || c.from == Unchecked && c.to.State == Maintenance {
			level = slog.LevelWarn // it took requests
		}
		st.logger.LogAttrs(context.Background(), level, "server state changed",
			slog.String("pool", p.Name()), slog.String("server", c.server.Name()), slog.String("from", c.from.String()),
			slog.String("to", c.to.State.String()), slog.String("cause", c.to.Cause.String()),
			slog.String("monitor", c.to.Monitor), slog.Any("error", c.to.Err))
		if st.onEvent == nil {
			continue
		}
		e := Event{Kind: EventState, Server: c.server, From: c.from, Change: c.to}
		if c.to.Cause == CauseDrained {
			e.Kind, e.Open = EventDrained, c.server.Open()
			e.Bound = p.bound(c.server)
		}
		st.onEvent(e)
	}
}
