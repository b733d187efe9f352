package acceptance_test

import (
	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/datascript/jwtkeys"
	"github.com/limpetlb/limpet/persistence"
	"github.com/limpetlb/limpet/persistence/redisstore"
)

// What fits as well, but would bring its package into every program if seams.go
// named it.
var (
	_ limpet.Tables        = (*redisstore.Store)(nil)
	_ datascript.Tables    = (*redisstore.Store)(nil)
	_ persistence.Sessions = (*redisstore.Store)(nil)

	_ datascript.TokenVerifier = (*jwtkeys.Verifier)(nil)
)
