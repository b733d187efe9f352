package datascript

import (
	"fmt"
	"math"
	"runtime/debug"
	"strings"

	lua "github.com/yuin/gopher-lua"

	"github.com/limpetlb/limpet/internal/luastr"
)

// A symbol is a predefined name of the script language, such as "pairs",
// "avi" or "avi.http.get_header". The files lib_*.go and avi_*.go hold one
// module each: a list of entries, and the functions behind them.
type symbol struct {
	name   string // the whole path
	kind   symbolKind
	parent *symbol // the table that holds it; nil for globals

	members []*symbol      // of a table
	text    string         // of a constant
	num     float64        // of a numeric constant
	object  *lua.LUserData // of a token
	native  lua.LGFunction // of a function
	events  eventSet       // in which a function may be called
	call    func(call) int // what native wraps
}

type symbolKind uint8

const (
	function       symbolKind = iota
	constant                  // a string
	numeric                   // a number
	token                     // a value that equals only itself
	library                   // a table, read-only to scripts
	perTransaction            // a value that the transaction owns
)

// field returns the last part of the name.
func (s *symbol) field() string { return s.name[strings.LastIndexByte(s.name, '.')+1:] }

// An entry declares a symbol of a module. With call it is a function, legal
// in the given events or, if there are none, in all.
type entry struct {
	name   string
	call   func(call) int
	events eventSet
	text   string
	num    float64
	kind   symbolKind
}

// symbols are all predefined names by path. They are filled in by init,
// because functions of the API refer to the table they stand in.
var symbols map[string]*symbol

// copyableLibraries are Lua's own libraries, to which scripts may add
// functions of their own for the length of a transaction.
var copyableLibraries = map[string]bool{"string": true, "table": true, "math": true, "os": true}

func init() {
	symbols = map[string]*symbol{}
	declare("", baseEntries)
	declare("", operatorEntries)
	declare("string", stringEntries)
	declare("table", tableEntries)
	declare("math", mathEntries)
	declare("os", osEntries)
	declare("avi", aviConstants)
	declare("avi.vs", vsEntries)
	declare("avi.vs", rateEntries)
	declare("avi.vs.analytics", analyticsEntries)
	declare("avi.http", httpEntries)
	declare("avi.pool", poolEntries)
	declare("avi.ipgroup", ipgroupEntries)
	declare("avi.http.ipgroup", ipgroupEntries) // as some pages of the reference spell it
	declare("avi.stringgroup", stringgroupEntries)
	declare("avi.http.stringgroup", stringgroupEntries) // likewise
	declare("avi.poolgroup", poolgroupEntries)
	declare("avi.ssl", sslEntries)
	declare("avi.crypto", cryptoEntries)
	declare("avi.utils", utilsEntries)
	for _, name := range unsupportedNames {
		declare("", []entry{{name: name, call: unsupported}})
	}
}

func declare(module string, entries []entry) {
	for _, e := range entries {
		name := e.name
		if module != "" {
			name = module + "." + name
		}
		s := &symbol{name: name, kind: e.kind, text: e.text, num: e.num, call: e.call, events: e.events}
		switch {
		case e.call != nil:
			if s.events == 0 {
				s.events = anyEvent
			}
			s.native = s.invoke
		case e.kind == token:
			s.object = &lua.LUserData{Metatable: lua.LNil}
		}
		add(s)
	}
}

// add enters a symbol, and the tables on its path.
func add(s *symbol) {
	if symbols[s.name] != nil {
		panic("datascript: " + s.name + " declared twice")
	}
	symbols[s.name] = s
	i := strings.LastIndexByte(s.name, '.')
	if i < 0 || s.name == concatName {
		return
	}
	parent := symbols[s.name[:i]]
	if parent == nil {
		parent = &symbol{name: s.name[:i], kind: library}
		add(parent)
	}
	s.parent = parent
	parent.members = append(parent.members, s)
}

// callInstructions is what a call of a function of the API costs, beside the
// instruction that calls it.
const callInstructions = 3

// invoke is how the VM calls a function of the API.
func (s *symbol) invoke(L *lua.LState) int {
	r := L.Context().(*run)
	defer rescue(r, s)
	r.tick -= callInstructions
	if !s.events.has(r.event) {
		call{run: r, L: L, sym: s}.fail("%s: not allowed in event %v", s.name, r.event)
	}
	return s.call(call{run: r, L: L, sym: s})
}

// rescue turns a panic that is not a Lua error into one. It keeps the panic
// and its stack for the host, and nothing of either for the script.
func rescue(r *run, s *symbol) {
	p := recover()
	if p == nil {
		return
	}
	if _, ok := p.(*lua.ApiError); !ok {
		fault := &PanicError{Function: s.name, Value: p, Stack: debug.Stack()}
		r.halt(fault)
		p = &lua.ApiError{Type: lua.ApiErrorRun, Object: lua.LString(publicText(fault))}
	}
	panic(p)
}

// A call is one call of an API function, and gives access to its arguments.
type call struct {
	*run
	L   *lua.LState
	sym *symbol
}

// fail raises a script error at the place of the call. As in Lua, there is no
// place if it is not a script that calls, but pcall, say; functions of avi.*
// name the place of the script in any case.
func (c call) fail(format string, args ...any) {
	at := where(c.L, 1)
	if at == "" && c.isAPI() {
		at = c.place()
	}
	c.raise(c.L, lua.LString(at+c.message(format, args)))
}

// message is fmt.Sprintf that does not spell out what will be cut off.
func (c call) message(format string, args []any) string {
	for i, a := range args {
		if s, ok := a.(string); ok {
			args[i] = cut(s, c.engine.limits.ErrorBytes)
		}
	}
	return fmt.Sprintf(format, args...)
}

func (c call) isAPI() bool { return strings.HasPrefix(c.sym.name, "avi.") }

// place is where the script is, as it begins a line of the log.
func (c call) place() string {
	for level := 1; ; level++ {
		dbg, fn := frame(c.L, level)
		if dbg == nil || fn != nil && !fn.IsG {
			return where(c.L, level)
		}
	}
}

// failWith is fail for an error of the host, which becomes the cause of the
// RuntimeError.
func (c call) failWith(err error) {
	c.cause = err
	c.fail("%s", err.Error())
}

// argError reports argument n in Lua's words: with the name by which the
// script called the function, and without counting the object of a method.
func (c call) argError(n int, format string, args ...any) {
	name, text := calledAs(c.L, 0), c.message(format, args)
	if name.kind == "" {
		name.name = "?"
		if c.isAPI() {
			name.name = c.sym.field()
		}
	}
	if name.kind == "method" {
		if n--; n == 0 {
			c.fail("calling '%s' on bad self (%s)", name.name, text)
		}
	}
	c.fail("bad argument #%d to '%s' (%s)", n, name.name, text)
}

func (c call) typeError(n int, want string) {
	got := "no value"
	if n <= c.count() {
		got = c.arg(n).Type().String()
	}
	c.argError(n, "%s expected, got %s", want, got)
}

// parse charges for taking so many bytes apart.
func (c call) parse(size int) {
	if size > 1024 {
		c.spend(size >> 4)
	}
}

// count is the number of arguments.
func (c call) count() int { return c.L.GetTop() }

// countSet is the number of arguments up to the last that is not nil.
func (c call) countSet() int {
	n := c.L.GetTop()
	for n > 0 && c.L.Get(n) == lua.LNil {
		n--
	}
	return n
}

// arg returns argument n, counted from 1; nil if there is none.
func (c call) arg(n int) lua.LValue { return c.L.Get(n) }

// str returns a string argument; a number is one, too. Whoever asks for a long
// one will go through it, and is charged for that.
func (c call) str(n int) string {
	s := c.part(n)
	c.read(len(s))
	return s
}

// part is str for functions that look at a part of the string, and charge
// for it themselves if it can be long.
func (c call) part(n int) string {
	if s, ok := text(c.L.Get(n)); ok {
		return s
	}
	c.typeError(n, "string")
	return ""
}

// read charges for going through so many bytes.
func (c call) read(size int) {
	if size > 1024 {
		c.spend(size >> 8)
	}
	if size > longName {
		c.demand(longMode)
		c.watch(size)
	}
}

// maxName is how long names of services, groups and headers may be.
const maxName = 4 << 10

// name is str for what a service of the host is asked for: the host may
// repeat it in an error.
func (c call) name(n int) string {
	s := c.str(n)
	if len(s) > maxName {
		c.argError(n, "name of %d bytes", len(s))
	}
	return s
}

func (c call) optStr(n int, def string) string {
	if c.L.Get(n) == lua.LNil {
		return def
	}
	return c.str(n)
}

// num returns a number argument; a numeral in a string is one, too.
func (c call) num(n int) float64 {
	if f, ok := c.number(c.L.Get(n)); ok {
		return f
	}
	c.typeError(n, "number")
	return 0
}

func (c call) optNum(n int, def float64) float64 {
	if c.L.Get(n) == lua.LNil {
		return def
	}
	return c.num(n)
}

// integer is num cut to an int; what no int can hold becomes the nearest.
func (c call) integer(n int) int { return clampInt(c.num(n)) }

func (c call) optInt(n, def int) int {
	if c.L.Get(n) == lua.LNil {
		return def
	}
	return c.integer(n)
}

// cInt is num converted as Lua's own libraries convert it to an int.
func (c call) cInt(n int) int { return toCInt(c.num(n)) }

func toCInt(f float64) int { return int(int32(luastr.ToInt64(f))) }

func (c call) optCInt(n, def int) int {
	if c.L.Get(n) == lua.LNil {
		return def
	}
	return c.cInt(n)
}

// int64 is num converted as C converts it.
func (c call) int64(n int) int64 { return luastr.ToInt64(c.num(n)) }

func (c call) optInt64(n int, def int64) int64 {
	if c.L.Get(n) == lua.LNil {
		return def
	}
	return c.int64(n)
}

func (c call) table(n int) *lua.LTable {
	t, ok := c.L.Get(n).(*lua.LTable)
	if !ok {
		c.typeError(n, "table")
	}
	return t
}

// any insists that there is an argument, be it nil.
func (c call) any(n int) lua.LValue {
	if n > c.count() {
		c.argError(n, "value expected")
	}
	return c.L.Get(n)
}

func (c call) ret(v lua.LValue) int {
	c.L.Push(v)
	return 1
}

func (c call) retString(s string) int {
	if len(s) > maxWord {
		c.hold(stringBytes + len(s))
		if len(s) > longName {
			c.demand(longMode)
			c.watch(len(s))
		}
	}
	return c.ret(stringValue(s))
}

func (c call) retBool(b bool) int { return c.ret(lua.LBool(b)) }

func (c call) retNumber(f float64) int {
	// Small integers are ready-made: making a Lua value allocates.
	if i := int(f); i >= 0 && i < len(integers) && float64(i) == f && !math.Signbit(f) {
		return c.ret(integers[i])
	}
	return c.ret(lua.LNumber(f))
}

var integers = func() (values [1024]lua.LValue) {
	for i := range values {
		values[i] = lua.LNumber(i)
	}
	return values
}()

// text returns the string that Lua makes of a string or a number.
func text(v lua.LValue) (string, bool) {
	switch v := v.(type) {
	case lua.LString:
		return string(v), true
	case lua.LNumber:
		return luastr.FormatNumber(float64(v)), true
	}
	return "", false
}

// number is the function of that name, charged for.
func (c call) number(v lua.LValue) (float64, bool) {
	if s, ok := v.(lua.LString); ok {
		c.read(4 * len(s))
	}
	return number(v)
}

// cText is a string as functions of C read it: up to its first zero byte.
func cText(s string) string {
	s, _, _ = strings.Cut(s, "\x00")
	return s
}

// number returns the number that Lua makes of a number or a string.
func number(v lua.LValue) (float64, bool) {
	switch v := v.(type) {
	case lua.LNumber:
		return float64(v), true
	case lua.LString:
		return luastr.ParseNumber(cText(string(v)))
	}
	return 0, false
}

func clampInt(f float64) int {
	const limit = 1<<31 - 1
	switch {
	case f != f:
		return 0
	case f > limit:
		return limit
	case f < -limit:
		return -limit
	}
	return int(f)
}

// unsupported is behind names of the API that do not apply to HTTP, or not
// yet. Calling one is an error that says so.
func unsupported(c call) int {
	c.fail("%s: not supported", c.sym.name)
	return 0
}

var unsupportedNames = []string{
	"avi.vs.persist", "avi.vs.ds_done", "avi.vs.set_session_id", "avi.vs.se_intf_ip",
	"avi.pool.get_server_ip",
	"avi.ssl.set_ssl_profile", "avi.ssl.set_ssl_certificate", "avi.ssl.set_pki_profile",
	"avi.ssl.renegotiate", "avi.ssl.client_cert_verify_error", "avi.ssl.client_cert_verify_error_string",
	"avi.ssl.client_cert_verify_mode", "avi.ssl.client_cert_verified", "avi.ssl.clear_client_cert_verify_error",
	"avi.l4.read", "avi.l4.collect", "avi.l4.discard", "avi.l4.modify", "avi.l4.pause", "avi.l4.resume",
	"avi.l4.send", "avi.l4.ds_done", "avi.l4.do_lb", "avi.l4.get_active_ftp_port",
	"avi.l4.set_active_ftp_port", "avi.l4.open_passive_ftp_port",
	"avi.dns.read", "avi.gslb.add_records", "avi.horizon.get_server_ports",
}
