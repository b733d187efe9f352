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

// The packages below this one do not know each other. Each declares the
// services that it needs as interfaces. These are the types that implement
// them.
var (
	_ datascript.Tables       = (*persistence.Store)(nil)
	_ datascript.Pools        = (*lbpool.Set)(nil)
	_ datascript.IPGroups     = (*ipgroup.Set)(nil)
	_ datascript.StringGroups = (*policy.StringGroups)(nil)
	_ datascript.Transaction  = (*transaction)(nil)

	// Further abilities of a transaction.
	_ datascript.Identifier          = (*transaction)(nil)
	_ datascript.ForwardController   = (*transaction)(nil)
	_ datascript.BodyBufferer        = (*transaction)(nil)
	_ datascript.EncryptionReporter  = (*transaction)(nil)
	_ datascript.ConnCounter         = (*transaction)(nil)
	_ datascript.OutcomeReporter     = (*transaction)(nil)
	_ datascript.CertificateVerifier = (*transaction)(nil)
	_ datascript.SessionReader       = (*transaction)(nil)
	_ datascript.EntrySelector       = (*transaction)(nil)

	_ policy.IPGroups    = (*ipgroup.Set)(nil)
	_ policy.Transaction = (*transaction)(nil)

	_ ipgroup.CountryFinder = (*geoip.DB)(nil)
	_ ipgroup.CountryFinder = (*geoip.Table)(nil)
	_ ipgroup.CountryFinder = (*geoip.Layers)(nil)
	_ ipgroup.ASNFinder     = (*geoip.DB)(nil)
	_ ipgroup.ASNFinder     = (*geoip.Table)(nil)
	_ ipgroup.ASNFinder     = (*geoip.Layers)(nil)

	_ policy.Geo     = (*geoip.DB)(nil)
	_ policy.Geo     = (*geoip.Table)(nil)
	_ policy.Geo     = (*geoip.Layers)(nil)
	_ datascript.Geo = (*geoip.DB)(nil)
	_ datascript.Geo = (*geoip.Table)(nil)
	_ datascript.Geo = (*geoip.Layers)(nil)

	_ Tables             = (*persistence.Store)(nil)
	_ PersistenceProfile = (*persistence.ClientIP)(nil)
	_ PersistenceProfile = (*persistence.HTTPCookie)(nil)
	_ PersistenceProfile = (*persistence.AppCookie)(nil)
	_ PersistenceProfile = (*persistence.CustomHeader)(nil)
	_ context.Context    = (*transaction)(nil)
	_ lbpool.Observer    = (*trafficObserver)(nil)

	// Further abilities of profiles.
	_ PersistenceClaimer = (*persistence.ClientIP)(nil)
	_ PersistenceClaimer = (*persistence.AppCookie)(nil)
	_ PersistenceKeeper  = (*persistence.ClientIP)(nil)
	_ PersistenceKeeper  = (*persistence.AppCookie)(nil)
	_ PersistenceCounter = (*persistence.ClientIP)(nil)
	_ PersistenceCounter = (*persistence.AppCookie)(nil)
)
