package lbpool

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/limpetlb/limpet/internal/bounds"
	"github.com/limpetlb/limpet/internal/fielderr"
)

// firstRetry is how long after a failure a Finder is asked again; further
// failures double it, up to the interval.
const firstRetry = time.Second

// A Finder finds servers of a pool, for example in the DNS, see DNSFinder.
//
// If Update or Adopt brings another Finder for the discovery of the same name,
// it is asked at once. Two finders are the same if they are equal, comparable
// values, such as the same pointer, or if the new one has a method Same(Finder)
// bool that returns true.
type Finder interface {
	// Find returns the current servers, which may be none. After an error the
	// pool keeps the servers that were found before. Find must return soon
	// after ctx is done; calls do not overlap. Neither side may change the list
	// afterwards.
	Find(ctx context.Context) ([]ServerConfig, error)
}

// FinderFunc is a function that is a Finder. No two of them are the same, see
// Finder.
type FinderFunc func(ctx context.Context) ([]ServerConfig, error)

// Find implements Finder.
func (f FinderFunc) Find(ctx context.Context) ([]ServerConfig, error) { return f(ctx) }

// Discovery says how and how often servers are found. Only Run asks: requests
// never wait for it. A list with a fault in any entry is a failure. After a
// failure the Finder is asked again in a second, then in two, and so on up to
// Interval.
type Discovery struct {
	// Name is the name in logs, unique within the pool. Update keeps the
	// servers found under a name until the new Finder has answered. Empty means
	// "discovery[i]".
	Name string
	// Finder finds the servers. Required.
	Finder Finder
	// Interval is the time from one answer to the next call, at most an hour,
	// less up to a tenth at random. 0 means 30 seconds.
	Interval time.Duration `default:"30s" min:"0s" max:"1h"`
	// Timeout limits a call of Find, at most an hour. 0 means 5 seconds.
	Timeout time.Duration `default:"5s" min:"0s" max:"1h"`
}

// validDiscoveries returns copies with the defaults filled in.
func validDiscoveries(configs []Discovery, faults *fielderr.List) []Discovery {
	if len(configs) > maxDiscoveries {
		faults.Addf("discoveries", nil, "%d discoveries, more than %d", len(configs), maxDiscoveries)
		return nil
	}
	discoveries := slices.Clone(configs)
	owner := make(map[string]string, len(configs))
	for i := range discoveries {
		d := &discoveries[i]
		path := fielderr.Index("discoveries", i)
		if d.Name == "" {
			d.Name = fmt.Sprintf("discovery[%d]", i)
		}
		faults.Name(path+".name", d.Name)
		if first, taken := owner[d.Name]; taken {
			faults.Addf(path+".name", d.Name, "already the name of %s", first)
		}
		owner[d.Name] = path
		if isNil(d.Finder) {
			faults.Addf(path+".finder", nil, "missing")
		} else if v, ok := d.Finder.(interface{ validate() error }); ok {
			if err := v.validate(); err != nil {
				faults.AddUnder(path+".finder", err)
			}
		}
		bounds.Check(path, *d, faults)
		bounds.SetDefaults(d)
	}
	return discoveries
}

// search is a discovery in a pool. run asks; the servers found are part of the
// pool.
type search struct {
	pool      *Pool
	discovery atomic.Pointer[Discovery] // changed by Update
	wake      chan struct{}             // has at most one token: the discovery has changed

	found []ServerConfig // guarded by the pool's mu
}

// discoverLocked makes the pool's searches those of discoveries.
func (p *Pool) discoverLocked(discoveries []Discovery) {
	searches := make([]*search, len(discoveries))
	for i := range discoveries {
		d := &discoveries[i]
		at := slices.IndexFunc(p.searches, func(s *search) bool { return s.discovery.Load().Name == d.Name })
		if at < 0 {
			searches[i] = &search{pool: p, wake: make(chan struct{}, 1)}
			searches[i].discovery.Store(d)
			continue
		}
		searches[i] = p.searches[at]
		if before := searches[i].discovery.Swap(d); before.Interval != d.Interval || !same(before.Finder, d.Finder) {
			select {
			case searches[i].wake <- struct{}{}:
			default: // run will ask anyway
			}
		}
	}
	p.searches = searches
}

func (s *search) run(ctx context.Context) {
	retry := firstRetry
	failing := false
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-timer.C:
		}
		d := s.discovery.Load()
		err := s.once(ctx, d)
		if ctx.Err() != nil {
			return
		}
		s.note(d, err, failing)
		failing = err != nil
		wait := d.Interval
		if failing {
			s.pool.counters.discoveryFailures.Add(1)
			wait = min(wait, retry)
			retry = min(2*retry, maxInterval)
		} else {
			retry = firstRetry
		}
		timer.Reset(wait - rand.N(wait/10+1))
	}
}

// once asks, and adds the servers found to the pool.
func (s *search) once(ctx context.Context, d *Discovery) error {
	limited, cancel := context.WithTimeout(ctx, d.Timeout)
	defer cancel()
	found, err := d.Finder.Find(limited)
	if err != nil {
		return err
	}
	if err := checkFound(found, s.pool.current.Load().port); err != nil {
		return err
	}
	surplus := 0
	s.pool.update(time.Now(), causeDiscovered, "", nil, func() bool {
		same := slices.Equal(s.found, found)
		if !same {
			s.found = found
			s.pool.rebuildLocked(s.pool.latest.settings, false)
		}
		surplus = s.pool.surplus
		return !same
	})
	s.pool.notify() // there may be new servers to check
	if surplus > 0 {
		return fmt.Errorf("%d servers are more than the %d that a pool may have, and are left out", surplus, MaxServers)
	}
	return nil
}

// checkFound returns the faults of servers that were found.
func checkFound(found []ServerConfig, port uint16) error {
	var faults fielderr.List
	newMembers(found, port, &faults)
	if faults.Len() > 0 {
		return faults.Err()
	}
	return nil
}

// note logs when a failure begins and when it ends.
func (s *search) note(d *Discovery, err error, failing bool) {
	if failing == (err != nil) {
		return
	}
	logger := s.pool.current.Load().logger
	if err == nil {
		logger.LogAttrs(context.Background(), slog.LevelInfo, "server discovery works again",
			slog.String("pool", s.pool.Name()), slog.String("discovery", d.Name))
		return
	}
	logger.LogAttrs(context.Background(), slog.LevelWarn, "server discovery failed",
		slog.String("pool", s.pool.Name()), slog.String("discovery", d.Name), slog.Any("error", err))
}

// membersLocked returns the configured servers and those that were found; of
// those with the same address, the first.
func (p *Pool) membersLocked(port uint16) []member {
	p.surplus = 0
	if len(p.searches) == 0 {
		return p.configured
	}
	members := slices.Clone(p.configured)
	known := make(map[netip.AddrPort]bool, len(members))
	named := make(map[string]bool, len(members))
	for _, m := range members {
		known[m.addr], named[strings.ToLower(m.config.Name)] = true, true
	}
	for _, s := range p.searches {
		var faults fielderr.List // there are none, since once has checked the list
		for _, m := range newMembers(s.found, port, &faults) {
			switch {
			case known[m.addr]:
				continue
			case len(members) == MaxServers:
				p.surplus++
				continue
			case named[strings.ToLower(m.config.Name)]:
				m.config.Name = "" // it is named by its address then
			}
			known[m.addr], named[strings.ToLower(m.config.Name)] = true, true
			members = append(members, m)
		}
	}
	return members
}
