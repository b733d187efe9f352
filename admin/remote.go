package admin

import (
	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/persistence"
)

// A remoteStore keeps its entries on another machine.
type remoteStore interface {
	Stats() persistence.RemoteStats
}

// A remoteView is a store on another machine.
type remoteView struct {
	Up            bool       `json:"up"`            // calls go to the server
	Nodes         []nodeView `json:"nodes"`         // its servers, by address
	Answered      uint64     `json:"answered"`      // calls that the server answered
	NearHits      uint64     `json:"near_hits"`     // calls that the near cache answered
	Local         uint64     `json:"local"`         // calls that tables in memory answered, while the server was away
	Failures      uint64     `json:"failures"`      // calls without a usable answer
	Opened        uint64     `json:"opened"`        // times that the server was lost
	NearEntries   int        `json:"near_entries"`  // values in the near cache
	Invalidations uint64     `json:"invalidations"` // keys that the server has reported as changed
	Duration      timesView  `json:"duration"`      // of calls
}

// A nodeView is a server of a store on another machine.
type nodeView struct {
	Address string `json:"address"` // host and port
	Up      bool   `json:"up"`      // there is a connection to it
}

// viewRemote returns the store of a service, nil if it is in memory.
func viewRemote(cfg limpet.Config) *remoteView {
	store, ok := cfg.Tables.(remoteStore)
	if !ok {
		return nil
	}
	st := store.Stats()
	v := &remoteView{
		st.Up, []nodeView{}, st.Answered, st.NearHits, st.Local, st.Failures, st.Opened, st.NearEntries, st.Invalidations, timesOf(st.Duration),
	}
	for _, n := range st.Nodes {
		v.Nodes = append(v.Nodes, nodeView{n.Address, n.Up})
	}
	return v
}

// A redisEvent says that the store of a service has been lost, or is back.
type redisEvent struct {
	VS string `json:"vs"` // the virtual service
	Up bool   `json:"up"` // calls go to the server
}

// followStores sends an event for each store that has been lost or is back.
func (a *Admin) followStores(before map[string]bool) {
	for _, vs := range a.services() {
		cfg := vs.Config()
		store, ok := cfg.Tables.(remoteStore)
		if !ok {
			continue
		}
		up := store.Stats().Up
		if was, known := before[cfg.Name]; known && was != up {
			a.events.publish("redis", redisEvent{cfg.Name, up}, 0, true)
		}
		before[cfg.Name] = up
	}
}
