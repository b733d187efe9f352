package limpet

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// A keeper renews the bindings of exchanges that last, such as WebSockets and
// streams: their clients send no requests meanwhile, and would be forgotten.
//
// It has a list for each target, in which a renewed exchange moves to the end,
// so that the first is always the next one to renew. A store that does not
// answer delays only its own target.
type keeper struct {
	mu      sync.Mutex
	lists   map[keptFor]*keptList
	changed chan struct{} // there is another list
}

// keptFor identifies a list.
type keptFor struct {
	target   string
	interval time.Duration
}

// A keptList has the exchanges of a target that are renewed at one interval.
// The links of an empty list lead to itself.
type keptList struct {
	mu       sync.Mutex
	interval time.Duration
	root     kept
}

// kept is a transaction's place in a list.
type kept struct {
	prev, next *kept
	list       *keptList
	due        time.Time

	// The binding to renew. Only issued changes while the place is in a list.
	request *http.Request
	client  netip.Addr
	target  *target
	// issued are the Set-Cookie lines of the answer, with which a server may
	// have begun the session.
	issued []string
}

// renew renews the binding, as the client's next request would.
func (p *kept) renew(ctx context.Context) error {
	r := p.request.WithContext(ctx)
	if len(p.issued) > 0 {
		var cookies []string // new cookies come first
		for _, line := range p.issued {
			pair, _, _ := strings.Cut(line, ";")
			cookies = append(cookies, pair)
		}
		cookies = append(cookies, r.Header["Cookie"]...)
		r.Header = r.Header.Clone()
		r.Header["Cookie"] = cookies
	}
	return p.target.keeper.Keep(r, p.client, p.target.name)
}

func newKeeper() keeper {
	return keeper{lists: make(map[keptFor]*keptList), changed: make(chan struct{}, 1)}
}

// list returns the list for bindings of a target that last for timeout. They
// are renewed after a third of it.
func (k *keeper) list(target string, timeout time.Duration) *keptList {
	const least = 30 * time.Millisecond
	interval := max(timeout/3, least)
	key := keptFor{target, interval}
	k.mu.Lock()
	defer k.mu.Unlock()
	l, ok := k.lists[key]
	if !ok {
		l = &keptList{interval: interval}
		l.root.prev, l.root.next = &l.root, &l.root
		k.lists[key] = l
		select {
		case k.changed <- struct{}{}:
		default:
		}
	}
	return l
}

// add begins to renew the binding in p.
func (l *keptList) add(p *kept) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	p.list, p.due = l, now.Add(l.interval)
	l.pushLocked(p)
}

// answer notes the cookies that a server's answer sets. If there are any, an
// exchange that is not in the list is added.
func (l *keptList) answer(p *kept, issued []string) {
	if len(issued) == 0 {
		return
	}
	issued = slices.Clone(issued) // the answer may change
	if p.list == nil {
		p.issued = issued
		l.add(p)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	p.issued = issued
}

func (l *keptList) pushLocked(p *kept) {
	p.prev, p.next = l.root.prev, &l.root
	p.prev.next, l.root.prev = p, p
}

func (p *kept) unlinkLocked() {
	p.prev.next, p.next.prev = p.next, p.prev
	p.prev, p.next = nil, nil
}

// isKept reports whether the binding is renewed.
func (p *kept) isKept() bool { return p.list != nil }

// end stops renewing. A binding is renewed once more if the exchange has lasted
// for longer than an interval.
func (p *kept) end(lasted time.Duration) error {
	if !p.isKept() {
		return nil
	}
	l := p.list
	l.mu.Lock()
	p.unlinkLocked()
	l.mu.Unlock()
	defer func() { *p = kept{} }()
	if lasted < l.interval {
		return nil
	}
	return p.renew(context.WithoutCancel(p.request.Context())) // the client may be gone
}

// next takes an exchange that is due and moves it to the end of the list. The
// copy stays good when the transaction ends meanwhile.
func (l *keptList) next(now time.Time) (p kept, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := l.root.next
	if first == &l.root || first.due.After(now) {
		return p, false
	}
	p = *first
	first.due = now.Add(l.interval)
	first.unlinkLocked()
	l.pushLocked(first)
	return p, true
}

// run renews bindings until ctx ends. It reports failures to failed.
func (k *keeper) run(ctx context.Context, failed func(target string, err error)) {
	var wg sync.WaitGroup
	defer wg.Wait()
	running := map[*keptList]bool{}
	for {
		k.mu.Lock()
		for _, l := range k.lists {
			if !running[l] {
				running[l] = true
				wg.Go(func() { l.run(ctx, failed) })
			}
		}
		k.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-k.changed:
		}
	}
}

func (l *keptList) run(ctx context.Context, failed func(target string, err error)) {
	const steps = 10 // for an interval, so that each is a tenth longer at most
	tick := time.NewTicker(l.interval / steps)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			l.renewDue(ctx, failed)
		}
	}
}

// renewDue renews the due bindings, several at a time, since a store may be
// slow.
func (l *keptList) renewDue(ctx context.Context, failed func(target string, err error)) {
	const atATime = 32
	places := make(chan struct{}, atATime)
	var wg sync.WaitGroup
	defer wg.Wait()
	for p, ok := l.next(time.Now()); ok && ctx.Err() == nil; p, ok = l.next(time.Now()) {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			if p.request.Context().Err() != nil {
				return // the end of the exchange will renew it
			}
			if err := p.renewWithin(ctx, l.interval); err != nil && ctx.Err() == nil {
				failed(p.target.name, err)
			}
		})
	}
}

// renewWithin renews the binding as long as ctx and limit allow. It returns the
// panic of a profile as an error.
func (p *kept) renewWithin(ctx context.Context, limit time.Duration) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("the profile panics: %v", v)
		}
	}()
	own, cancel := context.WithTimeout(context.WithoutCancel(p.request.Context()), limit)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	return p.renew(own)
}
