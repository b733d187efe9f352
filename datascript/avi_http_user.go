package datascript

import (
	"crypto/tls"

	lua "github.com/yuin/gopher-lua"
)

// get_userid() returns the name of the user, or nil: the one that set_userid
// was given or that the host has found out, else that of HTTP basic
// authentication, else the common name in the client's certificate if that
// has been verified. What a client says in basic authentication is not
// checked here.
func httpGetUserID(c call) int {
	id := ""
	if c.user != nil {
		id = *c.user
	} else if k, ok := c.tx.(UserKeeper); ok {
		id = k.UserID()
	}
	if id == "" {
		id, _, _ = c.tx.Original().BasicAuth()
	}
	if id == "" {
		id = certificateUser(c.tx.Original().TLS)
	}
	if id == "" {
		return c.ret(lua.LNil)
	}
	return c.retString(id)
}

func certificateUser(t *tls.ConnectionState) string {
	if t == nil || len(t.VerifiedChains) == 0 || len(t.PeerCertificates) == 0 {
		return ""
	}
	return t.PeerCertificates[0].Subject.CommonName
}

// set_userid(id) sets the name of the user, for get_userid and for the log of
// the transaction; nil takes it back. It fails if the host keeps no names.
func httpSetUserID(c call) int {
	keeper := ability[UserKeeper](c)
	id := c.optStr(1, "")
	c.user = &id
	c.decide(func() { keeper.SetUserID(id) })
	return 0
}
