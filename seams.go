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
	_ datascript.Tables       = (*persistence.Store)(nil)
	_ datascript.Pools        = (*lbpool.Set)(nil)
	_ datascript.IPGroups     = (*ipgroup.Set)(nil)
	_ datascript.StringGroups = (*policy.StringGroups)(nil)
	_ datascript.Transaction  = (*Transaction)(nil)

	// What a transaction can do beside.
	_ policy.LabelSelector           = (*Transaction)(nil)
	_ datascript.UserKeeper          = (*Transaction)(nil)
	_ datascript.RequestIdentifier   = (*Transaction)(nil)
	_ datascript.ServerTimer         = (*Transaction)(nil)
	_ datascript.RequestBufferer     = (*Transaction)(nil)
	_ datascript.RequestHeadBufferer = (*Transaction)(nil)
	_ datascript.ResponseBufferer    = (*Transaction)(nil)
	_ datascript.EncryptionReporter  = (*Transaction)(nil)
	_ datascript.FailureReporter     = (*Transaction)(nil)
	_ datascript.HashKeyer           = (*Transaction)(nil)
	_ datascript.PersistenceTeller   = (*Transaction)(nil)
	_ datascript.CertificateVerifier = (*Transaction)(nil)
	_ datascript.SAMLReader          = (*Transaction)(nil)
	_ datascript.ClaimReader         = (*Transaction)(nil)
	_ datascript.EntryCorrector      = (*Transaction)(nil)
	_ datascript.Tunneler            = (*Transaction)(nil)

	_ policy.IPGroups           = (*ipgroup.Set)(nil)
	_ policy.Transaction        = (*Transaction)(nil)
	_ policy.RequestIdentifier  = (*Transaction)(nil)
	_ policy.EncryptionReporter = (*Transaction)(nil)

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
	_ context.Context    = (*Transaction)(nil)

	// What profiles can do beside.
	_ PersistenceClaimer = (*persistence.ClientIP)(nil)
	_ PersistenceClaimer = (*persistence.AppCookie)(nil)
	_ PersistenceKeeper  = (*persistence.ClientIP)(nil)
	_ PersistenceKeeper  = (*persistence.AppCookie)(nil)
	_ PersistenceCounter = (*persistence.ClientIP)(nil)
	_ PersistenceCounter = (*persistence.AppCookie)(nil)
)
