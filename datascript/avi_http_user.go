package datascript

import lua "github.com/yuin/gopher-lua"

// get_userid() returns the name of the user, or nil: the one from set_userid or
// from the host, else that of HTTP basic authentication, else the common name
// in the client's certificate if that was verified. It does not check the
// password of basic authentication.
func httpGetUserID(c call) int {
	id := ""
	if c.user != nil {
		id = *c.user
	} else if k, ok := c.tx.(Identifier); ok {
		id = k.UserID()
	}
	if id == "" {
		id, _, _ = c.tx.Original().BasicAuth()
	}
	if id == "" {
		id = c.certificateUser()
	}
	if id == "" {
		return c.Ret(lua.LNil)
	}
	return c.RetString(id)
}

func (c call) certificateUser() string {
	t := c.tls()
	if t == nil || len(t.PeerCertificates) == 0 || c.certificateFault(t) != nil {
		return ""
	}
	return t.PeerCertificates[0].Subject.CommonName
}

// set_userid(id) sets the name of the user, for get_userid and for the log of
// the transaction; nil removes it. It fails if the host keeps no names.
func httpSetUserID(c call) int {
	keeper := ability[Identifier](c)
	id := c.OptStr(1, "")
	c.user = &id
	c.decide(func() { keeper.SetUserID(id) })
	return 0
}

// saml_session_decrypt() returns the attributes of the client's SAML session as
// one string, each as NAME=value; nil without a session. The host supplies
// them; see [SessionReader].
func httpSAMLSessionDecrypt(c call) int {
	if r, ok := c.tx.(SessionReader); ok {
		if attributes, ok := r.SAMLAttributes(); ok {
			c.Allow(len(attributes))
			return c.RetString(attributes)
		}
	}
	return c.Ret(lua.LNil)
}

// oauth_get_claim(provider, claim) returns an array of the values of a claim of
// the client's token, which are strings; nil if there is no token or no such
// claim. provider is a number: 0 is the first provider. The host supplies the
// claims; see [SessionReader].
func httpOAuthGetClaim(c call) int {
	provider, name := c.Integer(1), c.name(2)
	r, ok := c.tx.(SessionReader)
	if !ok {
		return c.Ret(lua.LNil)
	}
	values, ok := r.Claim(provider, name)
	if !ok {
		return c.Ret(lua.LNil)
	}
	t := c.L.CreateTable(len(values), 0)
	for _, v := range values {
		c.Allow(len(v))
		c.Spend(2)
		t.Append(lua.LString(v))
	}
	return c.Ret(t)
}
