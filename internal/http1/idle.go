package http1

import (
	"net/http"
	"sync"
	"time"
)

// hostKey says what connections lead to.
type hostKey struct {
	secure bool
	addr   string // host and port
}

// idleConns has the connections that are not in use: for each host a stack, of
// which the one used last is taken first, and across all hosts a queue in the
// order in which they will expire. The zero value has none.
type idleConns struct {
	maxConns, maxPerHost int // negative: none
	timeout              time.Duration

	mu      sync.Mutex
	hosts   map[hostKey]hostConns
	queue   hostConns // of all hosts
	closing bool      // closeAll was called and no connection taken since
	timer   *time.Timer
	armed   bool // the timer will call expire
}

// hostConns is a doubly linked list, from the connection that has been idle for
// longest to the latest.
type hostConns struct {
	oldest, latest *conn
	n              int
}

// links are a connection's neighbours in such a list.
type links struct{ older, newer *conn }

func (l *hostConns) push(c *conn, at func(*conn) *links) {
	*at(c) = links{older: l.latest}
	if l.latest != nil {
		at(l.latest).newer = c
	} else {
		l.oldest = c
	}
	l.latest = c
	l.n++
}

func (l *hostConns) remove(c *conn, at func(*conn) *links) {
	own := at(c)
	if own.older != nil {
		at(own.older).newer = own.newer
	} else {
		l.oldest = own.newer
	}
	if own.newer != nil {
		at(own.newer).older = own.older
	} else {
		l.latest = own.older
	}
	*own = links{}
	l.n--
}

func inHostList(c *conn) *links { return &c.inHost }
func inQueue(c *conn) *links    { return &c.inQueue }

func (p *idleConns) configure(base *http.Transport) {
	p.hosts = map[hostKey]hostConns{}
	p.timeout = base.IdleConnTimeout
	p.maxConns, p.maxPerHost = base.MaxIdleConns, base.MaxIdleConnsPerHost
	if p.maxPerHost == 0 {
		p.maxPerHost = http.DefaultMaxIdleConnsPerHost
	}
	if base.DisableKeepAlives {
		p.maxPerHost = -1
	}
}

// put takes in a connection that is not in use any more. It reports false if
// there is no room, or no wish, for it.
func (p *idleConns) put(c *conn) bool {
	now := time.Now()
	p.mu.Lock()
	list := p.hosts[c.key]
	if p.closing || list.n >= p.maxPerHost {
		p.mu.Unlock()
		return false
	}
	c.idleSince = now
	list.push(c, inHostList)
	p.hosts[c.key] = list
	p.queue.push(c, inQueue)
	var surplus *conn
	if p.maxConns > 0 && p.queue.n > p.maxConns {
		surplus = p.queue.oldest
		p.removeLocked(surplus)
	}
	if p.timeout > 0 && !p.armed {
		p.armed = true
		if p.timer == nil {
			p.timer = time.AfterFunc(p.timeout, p.expire)
		} else {
			p.timer.Reset(p.timeout)
		}
	}
	p.mu.Unlock()
	if surplus != nil {
		surplus.close()
	}
	return true
}

// take returns a connection to the host, nil if there is none.
func (p *idleConns) take(key hostKey) *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closing = false
	c := p.hosts[key].latest
	if c != nil {
		p.removeLocked(c)
	}
	return c
}

func (p *idleConns) removeLocked(c *conn) {
	list := p.hosts[c.key]
	if list.remove(c, inHostList); list.n == 0 {
		delete(p.hosts, c.key)
	} else {
		p.hosts[c.key] = list
	}
	p.queue.remove(c, inQueue)
}

// expire closes connections that have been idle for too long. The timer calls
// it, as long as there are any idle.
func (p *idleConns) expire() {
	p.mu.Lock()
	now := time.Now()
	var old []*conn
	for c := p.queue.oldest; c != nil && now.Sub(c.idleSince) >= p.timeout; c = p.queue.oldest {
		p.removeLocked(c)
		old = append(old, c)
	}
	if c := p.queue.oldest; c != nil {
		p.timer.Reset(p.timeout - now.Sub(c.idleSince))
	} else {
		p.armed = false
	}
	p.mu.Unlock()
	for _, c := range old {
		c.close()
	}
}

// closeAll closes all connections, and those that become idle before another is
// taken.
func (p *idleConns) closeAll() {
	p.mu.Lock()
	var all []*conn
	for c := p.queue.oldest; c != nil; c = p.queue.oldest {
		p.removeLocked(c)
		all = append(all, c)
	}
	p.closing = true
	if p.timer != nil && p.timer.Stop() {
		p.armed = false
	}
	p.mu.Unlock()
	for _, c := range all {
		c.close()
	}
}
