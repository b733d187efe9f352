package datascript

import (
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// The module avi.stringgroup: lists of strings, and maps of strings to
// values.
//
// equals(group, s), beginswith(group, s), contains(group, s) and
// endswith(group, s) look for an entry of the group that s equals, begins with,
// contains or ends with. If several match, the group chooses, by default the
// shortest. They return two results: the value of the entry, or in a plain list
// the entry itself, and true. Without a match, the results are nil and false;
// those of contains are nil and nil, as in the reference. A nil s never
// matches. An unknown group is an error.
//
// Letter case does not matter, unless _CASE is appended to the name.
var stringgroupEntries = []entry{
	{name: "equals", call: stringgroupMatch},
	{name: "beginswith", call: stringgroupMatch},
	{name: "contains", call: stringgroupMatch},
	{name: "endswith", call: stringgroupMatch},
	{name: "equals_CASE", call: stringgroupMatch},
	{name: "beginswith_CASE", call: stringgroupMatch},
	{name: "contains_CASE", call: stringgroupMatch},
	{name: "endswith_CASE", call: stringgroupMatch},
}

// stringgroupMatch implements all functions of the module; the name of the call
// says which one.
func stringgroupMatch(c call) int {
	groups := c.engine.env.StringGroups
	if groups == nil {
		c.Fail("%s: the virtual service has no string groups", c.Sym.Name)
	}
	operator, exactCase := strings.CutSuffix(c.Sym.Field(), "_CASE")
	group, s := c.name(1), ""
	given := c.Any(2) != lua.LNil
	if given {
		s = c.Str(2)
	}
	resume := c.Outside()
	result, ok, err := groups.Match(group, operator, s, exactCase)
	resume()
	if err != nil {
		c.FailWith(err)
	}
	switch {
	case ok && given:
		c.L.Push(lua.LString(result))
		c.L.Push(lua.LTrue)
	case operator == "contains":
		c.L.Push(lua.LNil)
		c.L.Push(lua.LNil)
	default:
		c.L.Push(lua.LNil)
		c.L.Push(lua.LFalse)
	}
	return 2
}
