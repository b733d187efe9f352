package admin

import "net/http"

// A route is one thing that callers can ask for. The table below is the only
// place that names routes: the mux, the judgement of callers and the comparison
// with openapi.json are made of it.
type route struct {
	method  string
	pattern string
	role    Role     // that callers need; 0: none, nobody is judged
	change  bool     // it changes something: is audited, and refused if ReadOnly
	query   []string // its parameters
	passes  bool     // a handler of the program answers, and knows its parameters
	handle  func(*call) (any, error)
}

// ServeHTTP tells the finder that this is the route.
func (rt *route) ServeHTTP(w http.ResponseWriter, _ *http.Request) { w.(*finder).found = rt }

const (
	services = "/v1/services"
	service  = services + "/{vs}"
)

// routes are all routes.
var routes = []route{
	{method: "GET", pattern: "/healthz", handle: healthz},
	{method: "GET", pattern: "/readyz", query: []string{"vs"}, handle: readyz},
	{method: "GET", pattern: "/metrics", role: Read, passes: true, handle: serveMetrics},
	{method: "GET", pattern: "/debug/", role: Operate, passes: true, handle: serveDebug},

	{method: "GET", pattern: "/v1/openapi.json", role: Read, handle: serveOpenAPI},
	{method: "GET", pattern: "/v1/status", role: Read, handle: getStatus},
	{method: "GET", pattern: "/v1/live", role: Read, handle: streamLive},
	{method: "GET", pattern: "/v1/events", role: Read, handle: streamEvents},
	{method: "GET", pattern: "/v1/audit", role: Read, handle: listAudit},
	{method: "GET", pattern: "/v1/overrides", role: Read, handle: listOverrides},
	{method: "DELETE", pattern: "/v1/overrides", role: Operate, change: true, handle: clearOverrides},
	{method: "DELETE", pattern: "/v1/overrides/{id}", role: Operate, change: true, handle: clearOverride},
	{method: "GET", pattern: "/v1/config", role: Read, handle: getConfig},
	{method: "GET", pattern: "/v1/config/source", role: Reveal, handle: getSource},
	{method: "POST", pattern: "/v1/config/reload", role: Operate, change: true, handle: reload},

	{method: "GET", pattern: services, role: Read, handle: listServices},
	{method: "GET", pattern: service, role: Read, handle: getService},
	{method: "GET", pattern: service + "/health", role: Read, handle: getHealth},
	{method: "GET", pattern: service + "/pools", role: Read, handle: listPools},
	{method: "GET", pattern: service + "/pools/{pool}", role: Read, handle: getPool},
	{method: "GET", pattern: service + "/pools/{pool}/servers/{server}", role: Read, handle: getServer},
	{method: "PATCH", pattern: service + "/pools/{pool}/servers/{server}", role: Operate, change: true, handle: patchServer},
	{method: "GET", pattern: service + "/tables", role: Read, handle: listTables},
	{method: "GET", pattern: service + "/tables/counts", role: Read, query: []string{"table"}, handle: countEntries},
	{method: "POST", pattern: service + "/entries/query", role: Read, handle: queryEntries},
	{method: "PUT", pattern: service + "/entries", role: Operate, change: true, handle: putEntry},
	{method: "POST", pattern: service + "/entries/delete", role: Operate, change: true, handle: deleteEntries},
	{method: "GET", pattern: service + "/groups", role: Read, handle: listGroups},
	{method: "GET", pattern: service + "/groups/{group}", role: Read, handle: getGroup},
	{method: "PATCH", pattern: service + "/groups/{group}", role: Operate, change: true, handle: editGroup},
	{method: "DELETE", pattern: service + "/groups/{group}/edits", role: Operate, change: true, handle: revertGroup},
	{method: "POST", pattern: service + "/groups/test", role: Read, handle: testGroups},
	{method: "GET", pattern: service + "/rules", role: Read, handle: listRules},
	{method: "GET", pattern: service + "/limiters", role: Read, handle: listLimiters},
	{method: "GET", pattern: service + "/scripts", role: Read, handle: listScripts},
	{method: "GET", pattern: service + "/scripts/errors", role: Read, handle: listScriptErrors},
	{method: "POST", pattern: service + "/explain", role: Read, handle: explain},
	{method: "GET", pattern: service + "/records", role: Read, query: pageQuery, handle: listRecords},
	{method: "GET", pattern: service + "/logs", role: Read, query: logFilters, handle: streamLogs},
}

// newMux returns a mux that finds the routes.
func newMux() *http.ServeMux {
	mux := http.NewServeMux()
	for i := range routes {
		mux.Handle(routes[i].method+" "+routes[i].pattern, &routes[i])
	}
	return mux
}
