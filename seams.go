package limpet

import (
	"context"

	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/ipgroup"
	"github.com/limpetlb/limpet/ipgroup/geoip"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
	"github.com/limpetlb/limpet/policy"
)

// The packages below this one do not know each other. Each declares what it
// needs of the others as an interface; this is what fits where.
var (
	_ datascript.Tables      = (*persistence.Store)(nil)
	_ datascript.Pools       = (*lbpool.Set)(nil)
	_ datascript.IPGroups    = (*ipgroup.Set)(nil)
	_ datascript.Transaction = (*Transaction)(nil)

	_ policy.IPGroups    = (*ipgroup.Set)(nil)
	_ policy.Transaction = (*Transaction)(nil)

	_ ipgroup.CountryFinder = (*geoip.DB)(nil)

	_ Tables             = (*persistence.Store)(nil)
	_ PersistenceProfile = (*persistence.ClientIP)(nil)
	_ PersistenceProfile = (*persistence.HTTPCookie)(nil)
	_ PersistenceProfile = (*persistence.AppCookie)(nil)
	_ PersistenceProfile = (*persistence.CustomHeader)(nil)
	_ context.Context    = (*Transaction)(nil)
)
