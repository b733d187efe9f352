package datascript

import (
	"cmp"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"

	"github.com/limpetlb/limpet/internal/httpfield"
	"github.com/limpetlb/limpet/internal/lua51"
	"github.com/limpetlb/limpet/internal/luastr"
)

// A cookie to add: one pair of a Cookie header, or one Set-Cookie line.
type cookie struct {
	name, value string
	attributes  cookieAttributes // of a response's
}

// cookieAttributes are the attributes after the value in a Set-Cookie line,
// each as it is written, such as "path=/"; empty if it is left out.
type cookieAttributes [numAttributes]string

// A cookieAttribute is an attribute. The constants are in the order in which
// attributes are written.
type cookieAttribute int

const (
	pathAttribute cookieAttribute = iota
	domainAttribute
	expiresAttribute
	maxAgeAttribute
	httpOnlyAttribute
	secureAttribute
	sameSiteAttribute
	numAttributes
)

var attributeNames = [numAttributes]string{"path", "domain", "expires", "max-age", "httponly", "secure", "samesite"}

// attributeNamed finds an attribute as scripts spell it, in any letter case.
func attributeNamed(name string) (cookieAttribute, bool) {
	name = luastr.Lower(name)
	if name == "maxage" || name == "max_age" {
		return maxAgeAttribute, true
	}
	i := slices.Index(attributeNames[:], name)
	return cookieAttribute(i), i >= 0
}

// The values of SameSite, for update_cookie and the like. Plain words work,
// too.
const (
	sameSiteLax = 1 + iota
	sameSiteNone
	sameSiteStrict
)

var sameSiteNames = map[string]string{
	"1": "Lax", "2": "None", "3": "Strict",
	"lax": "Lax", "none": "None", "strict": "Strict",
}

// add_cookie(...) adds cookies to the request or the response that the event is
// about. In a request event its arguments are names and values in turn, or a
// table of them; each becomes a pair of its own. In a response event they are
// name, value [, path [, domain [, expires [, max-age [, httponly [,
// secure]]]]]], or a table in which the keys path, domain, expires, max-age,
// httponly, secure and samesite are attributes and all others cookies, each
// with a Set-Cookie line. Expires is a Unix time or a date in its final form;
// 0, nil and false leave an attribute out. Existing cookies stay as they are.
func httpAddCookie(c call) int {
	c.addCookies(c.cookieArguments())
	return 0
}

// replace_cookie(...) removes all cookies of the same names and then works like
// add_cookie. The attributes of the old cookies are lost.
func httpReplaceCookie(c call) int {
	list := c.cookieArguments()
	names := make([]string, len(list))
	for i, ck := range list {
		names[i] = ck.name
	}
	c.removeCookies(names)
	c.addCookies(list)
	return 0
}

// remove_cookie(name [, name ...]) removes all cookies of these names, if
// there are any.
func httpRemoveCookie(c call) int {
	names := make([]string, max(c.Count(), 1))
	for i := range names {
		names[i] = c.Str(i + 1)
	}
	c.removeCookies(names)
	return 0
}

// update_cookie(name, attribute, value [, attribute, value ...]) sets
// attributes of a cookie of the response and keeps its value and other
// attributes. The values of samesite are avi.http.Lax, avi.http.None and
// avi.http.Strict. If there is no such cookie, it does nothing.
func httpUpdateCookie(c call) int {
	name := c.cookieName(1, c.Arg(1))
	if n := c.Count(); n < 3 || n%2 == 0 {
		c.Fail("%s: a name, and pairs of attributes and values expected", c.Sym.Name)
	}
	var set cookieAttributes
	var given [numAttributes]bool
	for n := 2; n < c.Count(); n += 2 {
		a, ok := attributeNamed(c.Str(n))
		if !ok {
			c.ArgError(n, "%q is not an attribute of a cookie", c.Str(n))
		}
		set[a], given[a] = c.attribute(n+1, a, c.Arg(n+1)), true
	}
	h := c.editHeader("Set-Cookie")
	c.parseLines(h["Set-Cookie"])
	lines := slices.Clone(h["Set-Cookie"])
	for i, line := range lines {
		c.Spend(1)
		if ck, _ := httpfield.ParseSetCookie(line); ck.Name == name {
			lines[i] = updateLine(line, &set, &given)
		}
	}
	if len(lines) > 0 {
		h["Set-Cookie"] = lines
	}
	return 0
}

// updateLine replaces attributes of a Set-Cookie line in place, and appends the
// missing ones.
func updateLine(line string, set *cookieAttributes, given *[numAttributes]bool) string {
	parts := strings.Split(line, ";")
	kept := parts[:1]
	done := [numAttributes]bool{}
	for _, part := range parts[1:] {
		name, _, _ := strings.Cut(strings.TrimSpace(part), "=")
		a, ok := attributeNamed(strings.TrimSpace(name))
		switch {
		case !ok || !given[a]:
			kept = append(kept, part)
		case !done[a] && set[a] != "":
			kept = append(kept, " "+set[a])
			done[a] = true
		}
	}
	for a, text := range set {
		if text != "" && !done[a] {
			kept = append(kept, " "+text)
		}
	}
	return strings.Join(kept, ";")
}

// cookieArguments reads the arguments of add_cookie, in all their forms.
func (c call) cookieArguments() []cookie {
	t, ok := c.Arg(1).(*lua.LTable)
	switch {
	case ok && c.onResponse():
		return c.responseTable(t)
	case ok:
		return c.requestTable(t)
	case c.onResponse():
		return c.positionalCookie()
	}
	if c.Count() == 0 || c.Count()%2 != 0 {
		c.Fail("%s: pairs of names and values expected", c.Sym.Name)
	}
	var list []cookie
	for n := 1; n < c.Count(); n += 2 {
		list = append(list, cookie{name: c.cookieName(n, c.Arg(n)), value: c.cookieValue(n+1, c.Arg(n+1))})
	}
	return list
}

func (c call) positionalCookie() []cookie {
	ck := cookie{name: c.cookieName(1, c.Arg(1)), value: c.cookieValue(2, c.Arg(2))}
	for a := range sameSiteAttribute {
		ck.attributes[a] = c.attribute(3+int(a), a, c.Arg(3+int(a)))
	}
	return []cookie{ck}
}

// requestTable reads a table of names and values. It sorts them by name, since
// a table has no order.
func (c call) requestTable(t *lua.LTable) (list []cookie) {
	t.ForEach(func(k, v lua.LValue) {
		c.Spend(4)
		list = append(list, cookie{name: c.cookieName(1, k), value: c.cookieValue(1, v)})
	})
	if len(list) == 0 {
		c.ArgError(1, "table without a cookie")
	}
	slices.SortFunc(list, func(a, b cookie) int { return cmp.Compare(a.name, b.name) })
	return list
}

// responseTable reads a table of cookies and attributes.
func (c call) responseTable(t *lua.LTable) []cookie {
	plain := c.L.CreateTable(0, 2)
	var attributes cookieAttributes
	t.ForEach(func(k, v lua.LValue) {
		name, _ := lua51.Text(k)
		c.Spend(4)
		c.Read(len(name))
		if a, ok := attributeNamed(name); ok {
			attributes[a] = c.attribute(1, a, v)
		} else {
			plain.RawSet(k, v)
		}
	})
	list := c.requestTable(plain)
	for i := range list {
		list[i].attributes = attributes
	}
	return list
}

func (c call) addCookies(list []cookie) {
	if !c.onResponse() {
		pairs := make([]string, len(list))
		for i, ck := range list {
			pairs[i] = ck.name + "=" + ck.value
		}
		h := c.editHeader("Cookie")
		// One header line: RFC 6265, section 5.4, allows no second one.
		line := strings.Join(append(slices.Clone(h["Cookie"]), pairs...), "; ")
		c.Allow(len(line))
		h["Cookie"] = []string{line}
		return
	}
	h := c.editHeader("Set-Cookie")
	lines := slices.Clip(h["Set-Cookie"])
	c.Spend(len(lines) >> 4)
	for _, ck := range list {
		var line strings.Builder
		line.WriteString(ck.name + "=" + ck.value)
		for _, a := range ck.attributes {
			if a != "" {
				line.WriteString("; " + a)
			}
		}
		lines = append(lines, line.String())
	}
	h["Set-Cookie"] = lines
}

func (c call) removeCookies(list []string) {
	names := make(map[string]bool, len(list))
	for _, name := range list {
		names[name] = true
	}
	if c.onResponse() {
		h := c.editHeader("Set-Cookie")
		c.parseLines(h["Set-Cookie"])
		kept := make([]string, 0, len(h["Set-Cookie"]))
		for _, line := range h["Set-Cookie"] {
			c.Spend(1)
			if ck, _ := httpfield.ParseSetCookie(line); !names[ck.Name] {
				kept = append(kept, line)
			}
		}
		setLines(h, "Set-Cookie", kept)
		return
	}
	h := c.editHeader("Cookie")
	c.parseLines(h["Cookie"])
	var kept []string
	for _, line := range h["Cookie"] {
		var pairs []string
		for pair, ck := range httpfield.Cookies(line) {
			c.Spend(1)
			pair = textproto.TrimString(pair)
			if pair != "" && !names[ck.Name] { // some servers take a bare name for a cookie, too
				pairs = append(pairs, pair)
			}
		}
		if len(pairs) > 0 {
			kept = append(kept, strings.Join(pairs, "; "))
		}
	}
	setLines(h, "Cookie", kept)
}

// setLines sets the lines of a header, or removes it if there are none.
func setLines(h http.Header, key string, lines []string) {
	if len(lines) == 0 {
		delete(h, key)
		return
	}
	h[key] = lines
}

// cookieName checks the name of a cookie in argument n.
func (c call) cookieName(n int, v lua.LValue) string {
	name, ok := lua51.Text(v)
	c.Read(4 * len(name))
	switch {
	case !ok:
		c.ArgError(n, "cookie name expected, got %s", v.Type())
	case !httpfield.IsToken(name):
		c.ArgError(n, "%q is not the name of a cookie", name)
	}
	return name
}

// cookieValue checks the value of a cookie in argument n.
func (c call) cookieValue(n int, v lua.LValue) string {
	value, ok := c.entryValue(v)
	if !ok {
		c.ArgError(n, "cookie value expected, got %s", v.Type())
	}
	return c.cookieText(n, value)
}

// cookieText refuses characters that could end a cookie, or the header that
// has it.
func (c call) cookieText(n int, s string) string {
	c.writeHeader(len(s))
	c.Read(len(s))
	if !httpfield.IsValue(s) || strings.Contains(s, ";") {
		c.ArgError(n, "%q has a control character or a semicolon", s)
	}
	return s
}

// attribute spells an attribute of a Set-Cookie line; empty if the value
// leaves it out.
func (c call) attribute(n int, a cookieAttribute, v lua.LValue) string {
	if v == lua.LNil || v == lua.LFalse {
		return ""
	}
	name := attributeNames[a]
	switch a {
	case httpOnlyAttribute, secureAttribute:
		return name
	case expiresAttribute, maxAgeAttribute:
		return c.timeAttribute(n, a, v)
	}
	s, ok := lua51.Text(v)
	if !ok {
		c.ArgError(n, "attribute %s: string expected, got %s", name, v.Type())
	}
	if a == sameSiteAttribute {
		c.Read(len(s))
		if s, ok = sameSiteNames[luastr.Lower(s)]; !ok {
			c.ArgError(n, "attribute samesite: avi.http.Lax, avi.http.None or avi.http.Strict expected")
		}
	}
	if s == "" {
		return ""
	}
	return name + "=" + c.cookieText(n, s)
}

// timeAttribute spells expires or max-age.
func (c call) timeAttribute(n int, a cookieAttribute, v lua.LValue) string {
	const endOfYear9999 = 253402300799
	name := attributeNames[a]
	f, ok := c.Number(v)
	if s, isText := v.(lua.LString); isText && !ok && a == expiresAttribute {
		if s == "" {
			return ""
		}
		return name + "=" + c.cookieText(n, string(s))
	}
	if !ok {
		c.ArgError(n, "attribute %s: number expected, got %s", name, v.Type())
	}
	if !(f >= -endOfYear9999 && f <= endOfYear9999) {
		c.ArgError(n, "attribute %s: %s is out of range", name, luastr.FormatNumber(f))
	}
	i := int64(f)
	switch {
	case i == 0:
		return ""
	case a == maxAgeAttribute:
		return name + "=" + strconv.FormatInt(i, 10)
	case i < 0:
		c.ArgError(n, "attribute %s: %s is out of range", name, luastr.FormatNumber(f))
	}
	return name + "=" + time.Unix(i, 0).UTC().Format(http.TimeFormat)
}
