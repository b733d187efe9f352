package datascript

import (
	"slices"
	"strings"

	"github.com/yuin/gopher-lua/ast"

	"github.com/limpetlb/limpet/internal/httpfield"
	"github.com/limpetlb/limpet/internal/lua51"
	"github.com/limpetlb/limpet/internal/luastr"
)

// Some calls compile and run but cannot do what their author wants: a lifetime
// of "5m", a cookie that browsers drop, a function that nothing defines. This
// file finds them by constant arguments, and by variables that are assigned
// once, to a constant. It looks at names, not at scopes: if a name is used for
// two variables, it knows nothing about either.

// A fact is the knowledge about the variables of a name.
type fact struct {
	assigned int
	value    ast.Expr // assigned last; nil if that is not a single expression
	kind     textKind // of all values
	serverIP bool     // the result of avi.pool.server_ip, or may be
	lookedUp bool     // the result of avi.vs.table_lookup, or may be
	asked    bool     // whether it is missing
}

// doubts inspects the syntax of a script during compilation.
type doubts struct {
	*lua51.Walker
	event       Event            // of the code that is looked at
	facts       map[string]*fact // by name, of local variables as well
	protections protections
	warnings    []Warning
	references  []Reference

	storesServerIP bool
	removes        bool // entries of tables

	buffersRequest, buffersResponse bool // as Script has it
}

// Begin implements lua51.Inspector.
func (w *doubts) Begin(walker *lua51.Walker, tag any) {
	w.Walker = walker
	w.protections.settle()
	if o, ok := tag.(*origin); ok {
		w.event = o.event
	}
}

// Text implements lua51.Inspector. It notes a string or the name of a field,
// which may be that of a function, whatever table it is looked up in.
func (w *doubts) Text(s string) {
	w.buffersRequest = w.buffersRequest || s == "set_request_body_buffer_size"
	w.buffersResponse = w.buffersResponse || s == "set_response_body_buffer_size"
}

// Assign implements lua51.Inspector: it notes that a variable is assigned.
func (w *doubts) Assign(name string, value ast.Expr) {
	if !w.UsesKnown() || w.Rewriting() {
		return
	}
	if w.facts == nil {
		w.facts = map[string]*fact{}
	}
	f := w.facts[name]
	if f == nil {
		f = &fact{}
		w.facts[name] = f
	}
	w.protections.name(name, value)
	if kind := w.textKind(value); f.assigned == 0 {
		f.kind = kind
	} else if f.kind != kind {
		f.kind = anyText
	}
	f.assigned++
	f.value = value
	f.serverIP = f.serverIP || w.isServerIP(value)
	f.lookedUp = f.lookedUp || w.isLookedUp(value)
}

// Condition implements lua51.Inspector: it notes the variables that a script
// checks for nil.
func (w *doubts) Condition(e ast.Expr) {
	switch e := e.(type) {
	case *ast.LogicalOpExpr:
		w.Condition(e.Lhs)
		w.Condition(e.Rhs)
	case *ast.UnaryNotOpExpr:
		w.noteMissing(e.Expr)
	case *ast.RelationalOpExpr:
		if _, ok := e.Rhs.(*ast.NilExpr); ok && e.Operator == "==" {
			w.noteMissing(e.Lhs)
		}
	}
}

func (w *doubts) noteMissing(e ast.Expr) {
	if id, ok := e.(*ast.IdentExpr); ok && w.UsesKnown() && !w.Rewriting() {
		if f := w.facts[id.Value]; f != nil {
			f.asked = true
		}
	}
}

// isLookedUp reports whether an expression may be the value of an entry.
func (w *doubts) isLookedUp(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.LogicalOpExpr:
		return w.isLookedUp(e.Lhs) || w.isLookedUp(e.Rhs)
	case *ast.FuncCallExpr:
		path, _ := w.Path(e.Func)
		return path == "avi.vs.table_lookup"
	}
	return false
}

// isServerIP reports whether an expression may be what avi.pool.server_ip
// returns, unchanged.
func (w *doubts) isServerIP(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.IdentExpr:
		f := w.facts[e.Value]
		return f != nil && f.serverIP
	case *ast.LogicalOpExpr:
		return w.isServerIP(e.Lhs) || w.isServerIP(e.Rhs)
	case *ast.FuncCallExpr:
		path, _ := w.Path(e.Func)
		return path == "avi.pool.server_ip" || path == "tostring" && len(e.Args) == 1 && w.isServerIP(e.Args[0])
	}
	return false
}

// literal returns the constant value of an expression: a string, a number or a
// boolean, as tostring prints it. kind is empty if the expression is not a
// constant.
func (w *doubts) literal(e ast.Expr) (text, kind string) {
	switch e := e.(type) {
	case *ast.StringExpr:
		return e.Value, "string"
	case *ast.NumberExpr:
		return e.Value, "number"
	case *ast.UnaryMinusOpExpr:
		if n, ok := e.Expr.(*ast.NumberExpr); ok {
			return "-" + n.Value, "number"
		}
	case *ast.TrueExpr:
		return "true", "boolean"
	case *ast.FalseExpr:
		return "false", "boolean"
	case *ast.NilExpr:
		return "nil", "nil"
	case *ast.IdentExpr:
		if f := w.facts[e.Value]; f != nil && f.assigned == 1 {
			if _, ok := f.value.(*ast.IdentExpr); !ok { // else variables could be defined in a circle
				return w.literal(f.value)
			}
		}
	case *ast.AttrGetExpr:
		if path, ok := w.Path(e); ok && library.Lookup(path) != nil {
			switch sym := library.Lookup(path); sym.Kind {
			case lua51.Constant:
				return sym.Text, "string"
			case lua51.Numeric:
				return luastr.FormatNumber(sym.Num), "number"
			}
		}
	}
	return "", ""
}

// Call implements lua51.Inspector.
func (w *doubts) Call(e *ast.FuncCallExpr) {
	if !w.UsesKnown() {
		return
	}
	w.doubtCallee(e)
	if e.Func == nil {
		return
	}
	if !w.Rewriting() {
		path, _ := w.Path(e.Func)
		w.removes = w.removes || path == "avi.vs.table_remove"
		if (path == "pcall" || path == "xpcall") && len(e.Args) > 0 {
			w.protections.protect(e.Args[0])
		}
		return
	}
	path, ok := w.Path(e.Func)
	if ok {
		w.refer(e, path)
	}
	args := e.Args
	if ok && path == "pcall" && len(args) > 0 {
		path, ok = w.Path(args[0])
		args = args[1:]
	}
	if !ok || !strings.HasPrefix(path, "avi.") {
		return
	}
	warn := func(format string, values ...any) { w.warn(e, path, format, values...) }
	switch path {
	case "avi.vs.table_insert":
		w.doubtInsert(args, warn)
	case "avi.vs.table_lookup", "avi.vs.table_refresh":
		w.doubtExtension(args, warn)
	case "avi.pool.select":
		if len(args) > 1 && w.isServerIP(args[1]) {
			w.storesServerIP = true
		}
		w.doubtSelect(args, warn)
	case "avi.http.add_cookie", "avi.http.replace_cookie":
		w.doubtCookie(args, warn)
	case "avi.http.update_cookie":
		w.doubtUpdate(args, warn)
	case "avi.http.add_header", "avi.http.replace_header":
		w.doubtSetCookie(args, warn)
	case "avi.http.get_req_body":
		if !w.InFunction() && requestEvents.has(w.event) && w.event != HTTPReqData {
			warn("always nil in %v: the body is there from HTTP_REQ_DATA on", w.event)
		}
	}
}

// doubtCallee warns of a call of a function that scripts do not have, directly
// or through pcall.
func (w *doubts) doubtCallee(e *ast.FuncCallExpr) {
	if !w.Rewriting() {
		return
	}
	callees := []ast.Expr{e.Func}
	if e.Func == nil {
		callees[0] = e.Receiver
	} else if path, ok := w.Path(e.Func); ok && (path == "pcall" || path == "xpcall") && len(e.Args) > 0 {
		callees = append(callees, e.Args[0])
	}
	for _, callee := range callees {
		path, ok := w.Path(callee)
		root, _, isField := strings.Cut(path, ".")
		switch {
		case !ok, root == "avi", library.Lookup(path) != nil:
		case slices.Contains(missingNames, path), isField && slices.Contains(missingNames, root):
			w.warn(e, path, "not available in scripts")
		case library.Lookup(root) == nil, library.Lookup(root).Kind == lua51.Module:
			w.warn(e, path, "never defined, hence nil")
		}
	}
}

// missingNames are the names of Lua 5.1's library that scripts do not have.
var missingNames = []string{
	"dofile", "getfenv", "load", "loadfile", "loadstring", "module", "require", "setfenv", "gcinfo", "newproxy",
	"_G", "coroutine", "debug", "io", "package",
	"os.execute", "os.exit", "os.getenv", "os.remove", "os.rename", "os.setlocale", "os.tmpname",
	"string.dump",
}

// doubtSelect warns of scripts that select the value of an entry, and store an
// entry only if it was missing.
func (w *doubts) doubtSelect(args []ast.Expr, warn warner) {
	if len(args) != 2 || w.removes {
		return
	}
	if id, ok := args[1].(*ast.IdentExpr); ok {
		if f := w.facts[id.Value]; f != nil && f.lookedUp && f.asked {
			warn("the entry still names the server when that is down: pass both results of avi.vs.table_lookup on")
		}
	}
}

// A warner adds a warning about the current call.
type warner func(format string, values ...any)

func (w *doubts) doubtInsert(args []ast.Expr, warn warner) {
	n := len(args)
	if n > 0 && lua51.IsMulti(args[n-1]) && !w.isServerIP(args[n-1]) {
		return // their number is not known
	}
	switch n {
	case 0, 1:
		return
	case 3:
		switch text, kind := w.literal(args[2]); {
		case w.isServerIP(args[2]):
		case kind == "" && w.textKind(args[2]) == anyText:
			warn("the third argument is the lifetime if it is a number, else the value, and the first argument is the table: " +
				"pass four arguments, the table first, which is \"\" by default")
		case kind == "", kind == "nil", kind == "boolean":
		case isNumeral(text):
			w.doubtLifetime(text, warn)
		case text == "" && w.isText(args[0]) || !looksLikeLifetime(text):
		default:
			warn("%q is no number of seconds, so it is the value, and the first argument is the table", text)
		}
	case 4:
		switch text, kind := w.literal(args[3]); {
		case kind == "":
		case kind == "string" && !isNumeral(text), kind == "boolean":
			warn("lifetime %q is no number of seconds: nothing is stored", text)
		case kind != "nil":
			w.doubtLifetime(text, warn)
		}
	}
}

// A textKind says whether the text of a value can be that of a number.
type textKind uint8

const (
	anyText   textKind = iota
	aNumber            // it is
	noNumeral          // it cannot be
)

// textKind returns what is known of an expression without running the script.
func (w *doubts) textKind(e ast.Expr) textKind {
	switch e := e.(type) {
	case *ast.ArithmeticOpExpr, *ast.UnaryMinusOpExpr, *ast.UnaryLenOpExpr:
		return aNumber
	case *ast.RelationalOpExpr, *ast.UnaryNotOpExpr, *ast.TrueExpr, *ast.FalseExpr, *ast.TableExpr, *ast.FunctionExpr:
		return noNumeral
	case *ast.NumberExpr, *ast.StringExpr:
		if text, _ := w.literal(e); isNumeral(text) {
			return aNumber
		}
		return noNumeral
	case *ast.StringConcatOpExpr:
		if w.isNoPart(e.Lhs) || w.isNoPart(e.Rhs) {
			return noNumeral
		}
	case *ast.LogicalOpExpr:
		if right := w.textKind(e.Rhs); e.Operator == "and" || right == w.textKind(e.Lhs) {
			return right
		}
	case *ast.IdentExpr:
		if f := w.facts[e.Value]; f != nil {
			return f.kind
		}
	case *ast.FuncCallExpr:
		switch path, ok := w.Path(e.Func); {
		case !ok:
		case path == "tonumber", path == "os.time", strings.HasPrefix(path, "math."):
			return aNumber
		case slices.Contains(addressFunctions, path):
			return noNumeral
		}
	}
	return anyText
}

// addressFunctions return addresses.
var addressFunctions = []string{"avi.vs.client_ip", "avi.vs.ip", "avi.pool.server_ip"}

// isNoPart reports whether an expression has a character that no number has.
func (w *doubts) isNoPart(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.StringExpr:
		return strings.Trim(e.Value, "0123456789abcdefxpABCDEFXP.+- \t\r\n\v\f") != ""
	case *ast.StringConcatOpExpr:
		return w.isNoPart(e.Lhs) || w.isNoPart(e.Rhs)
	case *ast.FuncCallExpr:
		return w.textKind(e) == noNumeral
	}
	return false
}

func (w *doubts) doubtLifetime(text string, warn warner) {
	if f, ok := luastr.ParseNumber(text); ok && f < 1 {
		warn("a lifetime of %s seconds stores nothing", strings.TrimSpace(text))
	}
}

func (w *doubts) doubtExtension(args []ast.Expr, warn warner) {
	switch len(args) {
	case 2:
		text, kind := w.literal(args[1])
		if w.isText(args[0]) && (text == "" || isNumeral(text)) {
			return // a key of a table whose name is written out
		}
		if kind == "string" && (isNumeral(text) || looksLikeLifetime(text)) {
			warn("%q is the key, and the first argument is the table: an extension is a number, without quotes", text)
		}
	case 3:
		if text, kind := w.literal(args[2]); kind == "string" && !isNumeral(text) || kind == "boolean" {
			warn("extension %q is no number of seconds", text)
		}
	}
}

func (w *doubts) isText(e ast.Expr) bool {
	_, kind := w.literal(e)
	return kind == "string"
}

func isNumeral(text string) bool {
	_, ok := luastr.ParseNumber(text)
	return ok
}

// looksLikeLifetime reports whether a text looks like a lifetime: a number and
// a unit, or nothing.
func looksLikeLifetime(text string) bool {
	text = strings.ToLower(strings.TrimSpace(text))
	number := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyz")
	unit := text[len(number):]
	if text == "" {
		return true
	}
	units := []string{"ms", "s", "sec", "secs", "second", "seconds", "m", "min", "mins", "minute", "minutes", "h", "hr", "hrs", "hour", "hours",
		"d", "day", "days", "w", "week", "weeks"}
	return isNumeral(number) && slices.Contains(units, unit)
}

// A cookieSketch is the knowledge about a cookie without running the script. A
// missing attribute is not set; one that is nil may have any value.
type cookieSketch struct {
	name       string
	attributes map[cookieAttribute]*string
}

func (s *cookieSketch) set(a cookieAttribute, text, kind string) {
	switch {
	case kind == "":
		s.attributes[a] = nil
	case kind == "nil", text == "false", text == "":
		delete(s.attributes, a)
	default:
		s.attributes[a] = &text
	}
}

func (s *cookieSketch) has(a cookieAttribute) bool {
	_, ok := s.attributes[a]
	return ok
}

// doubt warns of a cookie that browsers drop (RFC 6265bis, section 5.7). If the
// cookie is the server's, it may have further attributes.
func (s *cookieSketch) doubt(ofServer bool, warn warner) {
	unless := ""
	if ofServer {
		unless = " unless the server has set it"
	}
	sameSite := s.attributes[sameSiteAttribute]
	if sameSite != nil && sameSiteNames[luastr.Lower(*sameSite)] == "None" && !s.has(secureAttribute) {
		warn("samesite None without secure: browsers drop the cookie%s", unless)
	}
	name := luastr.Lower(s.name)
	host := strings.HasPrefix(name, "__host-")
	if (host || strings.HasPrefix(name, "__secure-")) && !s.has(secureAttribute) && !ofServer {
		warn("cookie %q without secure: browsers drop it", s.name)
	}
	if !host || ofServer {
		return
	}
	if path := s.attributes[pathAttribute]; !s.has(pathAttribute) || path != nil && *path != "/" {
		warn("cookie %q without path /: browsers drop it", s.name)
	}
	if s.attributes[domainAttribute] != nil {
		warn("cookie %q with a domain: browsers drop it", s.name)
	}
}

// setsCookies reports whether cookies of this event go to the client.
func (w *doubts) setsCookies() bool { return !(requestEvents | events(LBDone)).has(w.event) }

func (w *doubts) doubtCookie(args []ast.Expr, warn warner) {
	if !w.setsCookies() || len(args) == 0 {
		return
	}
	sketch := cookieSketch{attributes: map[cookieAttribute]*string{}}
	t, isTable := args[0].(*ast.TableExpr)
	if !isTable {
		if _, kind := w.literal(args[0]); kind == "" {
			return // it may be a table
		}
		sketch.name, _ = w.literal(args[0])
		for a := range sameSiteAttribute {
			if n := 2 + int(a); n < len(args) {
				text, kind := w.literal(args[n])
				sketch.set(a, text, kind)
			}
		}
		if len(args) > 1 && w.isServerIP(args[1]) {
			w.storesServerIP = true
		}
		if !lua51.IsMulti(args[len(args)-1]) {
			sketch.doubt(false, warn)
		}
		return
	}
	var names []string
	for _, field := range t.Fields {
		if field.Key == nil {
			continue
		}
		key, kind := w.literal(field.Key)
		if kind == "" {
			return // it may be any attribute
		}
		text, kind := w.literal(field.Value)
		if a, ok := attributeNamed(key); ok {
			sketch.set(a, text, kind)
			continue
		}
		names = append(names, key)
		if w.isServerIP(field.Value) {
			w.storesServerIP = true
		}
	}
	for _, name := range names {
		sketch.name = name
		sketch.doubt(false, warn)
	}
}

func (w *doubts) doubtUpdate(args []ast.Expr, warn warner) {
	if len(args) == 0 || lua51.IsMulti(args[len(args)-1]) {
		return
	}
	sketch := cookieSketch{attributes: map[cookieAttribute]*string{}}
	sketch.name, _ = w.literal(args[0])
	for n := 1; n+1 < len(args); n += 2 {
		name, kind := w.literal(args[n])
		a, ok := attributeNamed(name)
		if kind == "" || !ok {
			return
		}
		text, kind := w.literal(args[n+1])
		sketch.set(a, text, kind)
	}
	sketch.doubt(true, warn)
}

// doubtSetCookie checks a cookie that is written as a header.
func (w *doubts) doubtSetCookie(args []ast.Expr, warn warner) {
	if !w.setsCookies() || len(args) < 2 {
		return
	}
	if name, _ := w.literal(args[0]); luastr.Lower(strings.ReplaceAll(name, "_", "-")) != "set-cookie" {
		return
	}
	line := w.sketch(args[1])
	cookie, rest := httpfield.ParseSetCookie(line)
	sketch := cookieSketch{name: cookie.Name, attributes: map[cookieAttribute]*string{}}
	for _, part := range httpfield.Cookies(rest) {
		a, ok := attributeNamed(part.Name)
		value := part.Value
		switch {
		case strings.Contains(part.Name, unknownText):
			return
		case ok && strings.Contains(value, unknownText):
			sketch.attributes[a] = nil
		case ok:
			sketch.attributes[a] = &value
		}
	}
	sketch.doubt(false, warn)
}

// unknownText stands for an unknown part of a text.
const unknownText = "\x00"

// sketch returns a text with unknownText in place of parts that are not
// constant.
func (w *doubts) sketch(e ast.Expr) string {
	if op, ok := e.(*ast.StringConcatOpExpr); ok {
		return w.sketch(op.Lhs) + w.sketch(op.Rhs)
	}
	if text, kind := w.literal(e); kind != "" {
		return text
	}
	return unknownText
}
