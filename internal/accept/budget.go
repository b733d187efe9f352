package accept

import "net"

// A Budget bounds the connections of several gates together, such as to what a
// process has file descriptors for. While as many are open, its listeners
// accept no more, and clients wait. Each listener may exceed it by one.
type Budget struct {
	max  int
	open openConns
}

// leastConnections is what a [Budget] made from file descriptors allows at
// least.
const leastConnections = 16

// NewBudget returns a Budget of max connections. If max is 0, it is half of the
// file descriptors that the process may have, less those that others need; nil
// if the system does not report its limit.
func NewBudget(max, others int) *Budget {
	if max == 0 {
		files := fileLimit()
		if files == 0 {
			return nil
		}
		max = leastConnections
		if spare := int64(files) - 2*spareFiles - int64(others); spare/2 > leastConnections { //nolint:gosec // fileLimit is at most 1<<30
			max = int(spare / 2)
		}
	}
	return &Budget{max: max}
}

// Max returns how many connections may be open.
func (b *Budget) Max() int { return b.max }

// Open returns how many connections are open.
func (b *Budget) Open() int { return b.open.total() }

// Listener returns ln as one whose connections count, for [Gate.Listener]. The
// limit that the gate has for want of file descriptors does not apply then.
func (b *Budget) Listener(ln net.Listener) net.Listener { return budgeted{ln, b} }

type budgeted struct {
	net.Listener
	budget *Budget
}
