package datascript

// The module avi.poolgroup.
var poolgroupEntries = []entry{
	{name: "select", call: poolgroupSelect, events: requestEvents},
}

// select(group [, label]) chooses one of the group's pools, as the group
// decides: of those with the priority label, if one is given. Like
// avi.pool.select it fails if there is no such group or label, and of both
// functions the last successful call counts.
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
