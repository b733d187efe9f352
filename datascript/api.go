package datascript

import (
	"strings"

	lua "github.com/yuin/gopher-lua"

	"github.com/limpetlb/limpet/internal/lua51"
)

// An entry declares a name in a module of the API; each of the files avi_*.go
// has one module. An entry with call is a function, legal in the given events
// or, if there are none, in all.
type entry struct {
	name   string
	call   func(call) int
	events eventSet
	text   string
	num    float64
	kind   lua51.Kind
	value  func(*lua51.Run) lua.LValue // of a variable
}

var (
	// library has all predefined names. init fills it in, because functions of
	// the API refer to it.
	library = lua51.NewLibrary()
	// functions are the functions of the API, by path.
	functions = map[string]*function{}
)

func init() {
	library.Words(
		"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT",
		"http", "https", "1.0", "1.1", "2.0", "80", "443", "200", "204", "206", "301", "302", "303", "304", "307", "308",
		"400", "401", "403", "404", "405", "500", "502", "503", "504")
	declare("", []entry{{name: "print", call: logPrint}})
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
	declare("avi.jwt", jwtEntries)
	for _, name := range unsupportedNames {
		declare("", []entry{{name: name, call: unsupported}})
	}
}

func declare(module string, entries []entry) {
	list := make([]lua51.Entry, len(entries))
	for i, e := range entries {
		path := e.name
		if module != "" {
			path = module + "." + e.name
		}
		list[i] = lua51.Entry{Name: e.name, Kind: e.kind, Text: e.text, Num: e.num, Value: e.value, Host: strings.HasPrefix(path, "avi.")}
		if e.call == nil {
			continue
		}
		f := &function{e.call, e.events}
		if f.events == 0 {
			f.events = anyEvent
		}
		functions[path] = f
		list[i].Call = f.native()
	}
	library.Declare(module, list)
}

// A function is a function of the API, legal in some events.
type function struct {
	call   func(call) int
	events eventSet
}

// native returns the function as the interpreter calls it.
func (f *function) native() func(lua51.Call) int {
	return func(c lua51.Call) int {
		r := c.Host().(*run)
		if f.events&(1<<r.event) == 0 {
			c.Fail("%s: not allowed in event %v", c.Sym.Name, r.event)
		}
		return f.call(call{Call: c, run: r})
	}
}

// A call is one call of a function of the API. It gives access to its arguments
// and to the decisions of the script.
type call struct {
	lua51.Call
	*run
}

// maxName is how long names of services, groups and headers may be.
const maxName = 4 << 10

// name is Str for names that go to a service of the host, which may repeat them
// in an error.
func (c call) name(n int) string {
	s := c.Str(n)
	if len(s) > maxName {
		c.ArgError(n, "name of %d bytes", len(s))
	}
	return s
}

// unsupported serves names of the API that do not apply to HTTP or are not
// implemented. A call is an error that says so.
func unsupported(c call) int {
	c.Fail("%s: not supported", c.Sym.Name)
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
