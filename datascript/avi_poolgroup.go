package datascript

// The module avi.poolgroup.
var poolgroupEntries = []entry{
	{name: "select", call: poolgroupSelect, events: requestEvents},
}

// select(group [, label]) lets the group choose one of its pools: one of those
// with the priority label, if a label is given. It fails if there is no such
// group or label. The last successful call of it or of avi.pool.select wins.
func poolgroupSelect(c call) int {
	groups := c.engine.env.PoolGroups
	if groups == nil {
		c.Fail("%s: the virtual service has no pool groups", c.Sym.Name)
	}
	group, label := c.name(1), c.OptStr(2, "")
	resume := c.Outside()
	pool, err := groups.Choose(group, label)
	resume()
	if err != nil {
		c.FailWith(err)
	}
	c.selection = selection{pool: pool}
	return 0
}
