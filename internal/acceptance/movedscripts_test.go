package acceptance_test

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/ipgroup"
	"github.com/limpetlb/limpet/ipgroup/geoip"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/policy"
)

// The scripts in this file are written as authors of DataScripts write them,
// in the style of several of them, and run here as they stand, in a whole
// virtual service. Each test says what the author means them to do.

// A moved is a virtual service with one such script and several pools of one
// or more servers, which answer with what they were asked.
type moved struct {
	*testing.T
	site    *site
	recs    *records
	servers map[string][]string // by pool: addresses
}

type movedPool struct {
	name    string
	servers int
}

func move(t *testing.T, script string, pools []movedPool, answer http.HandlerFunc, edit func(*limpet.Config)) *moved {
	t.Helper()
	m := &moved{T: t, recs: newRecords(), servers: map[string][]string{}}
	cfg := limpet.Config{
		Name: "shop", Scripts: []limpet.Script{compile(t, "Moved Script", script)}, OnComplete: m.recs.add,
		Clients: limpet.Clients{TrustedProxies: loopback}, // clients of other addresses are told in X-Forwarded-For
	}
	host := 0
	for _, p := range pools {
		var servers []lbpool.ServerConfig
		for range p.servers {
			host++
			addr := startServer(t, fmt.Sprintf("127.0.1.%d:0", host), answer)
			servers = append(servers, lbpool.ServerConfig{Address: addr})
			m.servers[p.name] = append(m.servers[p.name], addr)
		}
		cfg.Pools = append(cfg.Pools, newPool(t, lbpool.Config{Name: p.name, Servers: servers, Algorithm: lbpool.RoundRobin()}))
	}
	if edit != nil {
		edit(&cfg)
	}
	_, m.site = serve(t, http1, cfg)
	return m
}

// ask sends a request from a client with header lines "Name: value". No
// script may fail.
func (m *moved) ask(method, target, client, body string, header ...string) (*http.Response, string, limpet.Record) {
	m.Helper()
	var content io.Reader
	if body != "" {
		content = strings.NewReader(body)
	}
	r := newRequest(m, method, m.site.URL+target, content)
	r.Header.Set("X-Forwarded-For", client)
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		if name == "Host" {
			r.Host = value
		} else {
			r.Header.Add(name, value)
		}
	}
	res, text := fetch(m, m.site.client(m), r)
	rec := m.recs.next(m)
	for _, e := range rec.ScriptErrors {
		m.Errorf("%s %s: %v\n%s", method, target, e, e.Traceback)
	}
	return res, text, rec
}

func tell(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	fmt.Fprintf(w, "%s %s %s", r.Method, r.RequestURI, body)
}

// Sessions of the application stick to their server, by the cookie that it
// sets. The part behind the dot names a node of the application and changes.
func TestMovedSessionPersistence(t *testing.T) {
	const script = `
-- HTTP_REQUEST
-- Session persistence without help from the client: the application's own cookie.
local cookie_name = "JSESSIONID"
function session_of(cookie)
    if cookie == nil or cookie == "" then return nil end
    local id = string.match(cookie, "^([%w%-_]+)")
    return id
end
session = session_of(avi.http.get_cookie(cookie_name, avi.HTTP_REQUEST))
server = nil
if session then
    server, ttl = avi.vs.table_lookup("sessions", session, 0)
    if server and avi.pool.get_server_status("app-pool", server, avi.vs.port()) == 0 then
        -- not on our own port: let the select decide
        avi.vs.log("session " .. session .. " on " .. server .. ", " .. ttl .. "s left")
    end
    if server and not pcall(avi.pool.select, "app-pool", server) then
        avi.vs.table_remove("sessions", session)
        server = nil
    end
end

-- HTTP_RESPONSE
local fresh = session_of(avi.http.get_cookie("JSESSIONID", avi.HTTP_RESPONSE))
session = fresh or session
if session and avi.http.status() ~= avi.HTTP_INTERNAL_SERVER_ERROR then
    local now_on = avi.pool.server_ip()
    if now_on ~= server then avi.vs.table_remove("sessions", session) end
    avi.vs.table_insert("sessions", session, now_on, 1200)
    avi.http.add_header("X-Served-By", now_on)
end
`
	m := move(t, script, []movedPool{{"app-pool", 3}}, func(w http.ResponseWriter, r *http.Request) {
		if name := r.FormValue("login"); name != "" {
			http.SetCookie(w, &http.Cookie{Name: "JSESSIONID", Value: name + ".node1"})
		}
	}, nil)
	servedBy := func(header ...string) string {
		t.Helper()
		res, _, _ := m.ask("GET", "/", "192.0.2.1", "", header...)
		return res.Header.Get("X-Served-By")
	}
	server := map[string]string{}
	for _, user := range []string{"ann", "bob", "cid"} {
		res, _, rec := m.ask("GET", "/?login="+user, "192.0.2.1", "")
		server[user] = res.Header.Get("X-Served-By")
		if !strings.HasPrefix(server[user], "127.0.1.") || rec.Outcome != limpet.OutcomeNone {
			t.Errorf("%s is on %q, persistence %v", user, server[user], rec.Outcome)
		}
	}
	if server["ann"] == server["bob"] || server["bob"] == server["cid"] || server["ann"] == server["cid"] {
		t.Errorf("the sessions are not balanced: %v", server)
	}
	for range 3 {
		for user, want := range server {
			if got := servedBy("Cookie: theme=dark; JSESSIONID=" + user + ".node2"); got != want {
				t.Errorf("%s went to %s, not to %s", user, got, want)
			}
		}
	}
	_, _, rec := m.ask("GET", "/", "192.0.2.1", "", "Cookie: JSESSIONID=ann.x")
	if rec.Outcome != limpet.OutcomeHit || len(rec.Log) != 1 ||
		!regexp.MustCompile(`^\[string "Moved Script"\]:16: session ann on 127\.0\.1\.\d, (1200|1199|119\d)s left$`).MatchString(rec.Log[0]) {
		t.Errorf("persistence %v, log %q", rec.Outcome, rec.Log)
	}
	if got := servedBy(); got != "" {
		t.Errorf("a client without a session was given %s", got)
	}
}

// One new visitor in five sees the new version; a cookie keeps the choice, a
// query argument overrides it, and without servers of the new version there is
// none.
func TestMovedSplit(t *testing.T) {
	t.Parallel()
	const script = `
-- HTTP Request Event --
math.randomseed(os.clock()^5)
version = avi.http.get_cookie("version")
local forced = avi.http.get_query("version")
if forced == "new" or forced == "old" then
    version, assigned = forced, true
elseif version ~= "new" and version ~= "old" then
    if math.random(100) <= 20 then version = "new" else version = "old" end
    assigned = true
end
local up, total = avi.pool.get_servers("pool-" .. version)
if up == 0 then
    avi.vs.log("no server of ", version, ": ", up, "/", total)
    version = "old"
end
avi.pool.select("pool-" .. version)

-- HTTP Response Event --
if assigned then
    avi.http.replace_cookie({version = version, path = "/", maxage = 86400, httponly = true})
end
avi.http.add_header("X-Version", version)
`
	var newPool *lbpool.Pool
	m := move(t, script, []movedPool{{"pool-old", 1}, {"pool-new", 1}}, tell, func(cfg *limpet.Config) { newPool = cfg.Pools[1] })
	const visitors = 400
	count := map[string]int{}
	for range visitors {
		res, _, rec := m.ask("GET", "/", "192.0.2.1", "")
		version := res.Header.Get("X-Version")
		count[version]++
		if rec.Pool != "pool-"+version || res.Header.Get("Set-Cookie") != "version="+version+"; path=/; max-age=86400; httponly" {
			t.Fatalf("version %q, pool %q, cookie %q", version, rec.Pool, res.Header.Get("Set-Cookie"))
		}
	}
	// Ten standard deviations.
	if count["new"] < 1 || count["new"] > 160 || count["new"]+count["old"] != visitors {
		t.Errorf("of %d visitors: %v", visitors, count)
	}
	for _, want := range []string{"old", "new"} {
		for range 5 {
			res, _, rec := m.ask("GET", "/", "192.0.2.1", "", "Cookie: version="+want)
			if res.Header.Get("X-Version") != want || rec.Pool != "pool-"+want || res.Header.Get("Set-Cookie") != "" {
				t.Errorf("who has %s got %v from %s", want, res.Header, rec.Pool)
			}
		}
	}
	if res, _, rec := m.ask("GET", "/?version=new", "192.0.2.1", "", "Cookie: version=old"); rec.Pool != "pool-new" || res.Header.Get("Set-Cookie") == "" {
		t.Errorf("forced: pool %q, %v", rec.Pool, res.Header)
	}
	newPool.Servers()[0].Disable()
	res, _, rec := m.ask("GET", "/", "192.0.2.1", "", "Cookie: version=new")
	if rec.Pool != "pool-old" || res.Header.Get("X-Version") != "old" || len(rec.Log) != 1 ||
		rec.Log[0] != `[string "Moved Script"]:14: no server of new: 0/1` {
		t.Errorf("without servers: pool %q, log %q", rec.Pool, rec.Log)
	}
}

// Countries and addresses are kept out, and paths lead to the pools that a map
// of a string group gives for them.
func TestMovedGeoAndRouting(t *testing.T) {
	const script = `
-- HTTP_REQ
local ip = avi.vs.client_ip()
if avi.ipgroup.contains("Office", ip) == false then
  if avi.ipgroup.contains("Bad-Guys", ip) then
    avi.vs.log("drop " .. ip)
    avi.http.close_conn(true)
  elseif avi.ipgroup.contains("Blocked-Countries", ip) then
    local country = avi.utils.get_geo_from_ip(ip) or "??"
    avi.vs.log("blocked " .. ip .. " from " .. country)
    avi.http.response(403, {content_type="text/html"}, "<h1>Not available in " .. country .. "</h1>")
  end
end
local pool, match = avi.stringgroup.beginswith("path-pools", avi.http.get_path())
if match then
  avi.pool.select(pool)
end
local agent = avi.http.get_header("user-agent")
val, match = avi.stringgroup.contains("bots", agent)
if match == nil then
  avi.http.add_header("X-Human", "maybe")
end
`
	data, err := os.ReadFile("../../examples/geoacl/countries.mmdb")
	if err != nil {
		t.Fatal(err)
	}
	db, err := geoip.OpenBytes(data)
	if err != nil {
		t.Fatal(err)
	}
	var groups ipgroup.Set
	for name, entries := range map[string][]string{
		"Office": {"127.0.0.33"}, "Bad-Guys": {"203.0.113.0/24", "2001:db8:bad::/48"}, "Blocked-Countries": {"FR"},
	} {
		g, err := ipgroup.Parse(name, entries, ipgroup.Options{Countries: db})
		if err != nil {
			t.Fatal(err)
		}
		if err := groups.Replace(g); err != nil {
			t.Fatal(err)
		}
	}
	paths, err := policy.NewStringGroup(policy.StringGroupConfig{Name: "path-pools", Kind: policy.StringMap, Entries: []policy.StringEntry{
		{Key: "/api/", Value: "pool-api"}, {Key: "/images/", Value: "pool-static"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	bots, err := policy.NewStringGroup(policy.StringGroupConfig{Name: "bots", Entries: []policy.StringEntry{{Key: "crawler"}, {Key: "spider"}}})
	if err != nil {
		t.Fatal(err)
	}
	strs, err := policy.NewStringGroups(paths, bots)
	if err != nil {
		t.Fatal(err)
	}
	m := move(t, script, []movedPool{{"pool-web", 1}, {"pool-api", 1}, {"pool-static", 1}}, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Header.Get("X-Human"))
	}, func(cfg *limpet.Config) {
		cfg.IPGroups, cfg.StringGroups, cfg.Geo = &groups, strs, db
		cfg.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	})
	const french = "127.0.0.18"

	for _, c := range []struct {
		client, path, agent string
		status              int
		pool, body, log     string
	}{
		{"192.0.2.7", "/", "Mozilla/5.0", 200, "pool-web", "maybe", ""},
		{"192.0.2.7", "/API/v1", "Mozilla/5.0", 200, "pool-api", "maybe", ""},
		{"192.0.2.7", "/images/a%2Fb.png?x", "Web-CRAWLER 1", 200, "pool-static", "", ""},
		{"192.0.2.7", "/api", "Mozilla/5.0", 200, "pool-web", "maybe", ""},
		{french, "/api/", "x", 403, "", "<h1>Not available in FR</h1>", "blocked " + french + " from FR"},
		{"127.0.0.33", "/api/", "spider", 200, "pool-api", "", ""},
	} {
		res, body, rec := m.ask("GET", c.path, c.client, "", "User-Agent: "+c.agent)
		if res.StatusCode != c.status || rec.Pool != c.pool || body != c.body || c.log != "" != (len(rec.Log) == 1 && strings.HasSuffix(rec.Log[0], ": "+c.log)) {
			t.Errorf("%s asked for %s: status %d, pool %q, body %q, log %q", c.client, c.path, res.StatusCode, rec.Pool, body, rec.Log)
		}
	}
	for _, client := range []string{"203.0.113.99", "2001:db8:bad::1", "::ffff:203.0.113.1"} {
		conn := m.site.dial(t, "")
		r := send(t, conn, "GET /api/ HTTP/1.1\nHost: a\nX-Forwarded-For: "+client+"\n\n")
		if rest, end := endOf(t, r); rest != "" || end != reset {
			t.Errorf("%s got %q and %s", client, rest, end)
		}
		if rec := m.recs.next(t); !rec.Closed || len(rec.Log) != 1 || !strings.HasSuffix(rec.Log[0], ": drop "+strings.TrimPrefix(client, "::ffff:")) {
			t.Errorf("record: %+v", rec)
		}
	}
}

// Who asks for the login page too often is put into a penalty box, for each
// client on its own, and is told for how long. Other pages are not affected.
func TestMovedPenalty(t *testing.T) {
	const script = `
-- HTTP_REQ
local PENALTY = 120
local client = avi.vs.client_ip()
if avi.http.get_path():beginswith("/login") and avi.http.method() == avi.HTTP_POST then
   local since, left = avi.vs.table_lookup("penalty", client, 0)
   if not since then
      local exceeded = avi.vs.ratelimit.exceed("login", client, 1)
      avi.vs.log("exceeded: " .. tostring(exceeded))
      if exceeded then
         avi.vs.table_insert("penalty", client, os.time(), PENALTY)
         avi.vs.analytics.counter("penalties")
         since, left = os.time(), PENALTY
      end
   end
   if since then
      avi.http.response(429, {retry_after = tostring(left), content_type = "application/json"},
         '{"error":"too many attempts","retry":' .. left .. '}')
      return
   end
end
`
	limiter, err := datascript.NewRateLimiter(datascript.RateLimit{Count: 3, Period: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	m := move(t, script, []movedPool{{"web", 1}}, tell, func(cfg *limpet.Config) {
		cfg.RateLimiters = map[string]*datascript.RateLimiter{"login": limiter}
	})
	attempt := func(client string) int {
		t.Helper()
		res, body, _ := m.ask("POST", "/login?a=b", client, "name=ann")
		if res.StatusCode == 200 {
			if body != "POST /login?a=b name=ann" {
				t.Errorf("the server got %q", body)
			}
			return 200
		}
		left, err := strconv.Atoi(res.Header.Get("Retry-After"))
		if err != nil || left < 60 || left > 120 || body != fmt.Sprintf(`{"error":"too many attempts","retry":%d}`, left) ||
			res.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%v %q", res.Header, body)
		}
		return res.StatusCode
	}
	for i, want := range []int{200, 200, 200, 429, 429} {
		if got := attempt("192.0.2.1"); got != want {
			t.Errorf("attempt %d: %d, not %d", i+1, got, want)
		}
	}
	if got := attempt("192.0.2.2"); got != 200 {
		t.Errorf("another client: %d", got)
	}
	if res, _, _ := m.ask("GET", "/login", "192.0.2.1", ""); res.StatusCode != 200 {
		t.Errorf("a look at the page: %d", res.StatusCode)
	}
}

// Old paths are redirected or rewritten, the host is told to the server, and
// responses get what browsers want to see.
func TestMovedRewrite(t *testing.T) {
	const script = `
-- HTTP_REQ
host = avi.http.hostname()
local path = avi.http.get_path()
if avi.http.secure() ~= "on" and string.sub(path, 1, 7) == "/secure" then
   avi.http.redirect("https://" .. host .. avi.http.get_uri(), 301)
   return
end
if path == "/" then
   avi.http.set_path("/index.html")
elseif string.find(path, "^/v1/") then
   local rest = string.gsub(path, "^/v1/", "/api/1/")
   avi.http.set_path(rest)
   local q = avi.http.get_query(avi.QUERY_TABLE)
   q.debug = nil
   q.source = "legacy"
   avi.http.set_query(q)
end
avi.http.replace_header("X-Original-Host", host)
avi.http.replace_header("Host", "backend.internal")
avi.http.remove_header("X-Debug")
-- HTTP_RESP
avi.http.remove_header("Server")
avi.http.remove_header("X-Powered-By")
if not avi.http.get_header("strict-transport-security") then
   avi.http.add_header("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
end
local loc = avi.http.get_header("Location")
if loc then
   avi.http.replace_header("Location", (string.gsub(loc, "^http://backend%.internal", "https://" .. host)))
end
local names, n = avi.http.get_cookie_names(avi.HTTP_RESPONSE)
for i = 1, n do
   avi.http.update_cookie(names[i], "secure", true, "httponly", true, "samesite", avi.http.Lax)
end
`
	m := move(t, script, []movedPool{{"web", 1}}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", "Apache")
		w.Header().Set("X-Powered-By", "PHP")
		w.Header().Add("Set-Cookie", "a=1; Path=/")
		w.Header().Add("Set-Cookie", "b=2")
		if r.URL.Path == "/moved" {
			w.Header().Set("Location", "http://backend.internal/to?x=http://backend.internal")
			w.WriteHeader(302)
		}
		fmt.Fprintf(w, "%s %s %s %q", r.Host, r.RequestURI, r.Header.Get("X-Original-Host"), r.Header.Get("X-Debug"))
	}, nil)

	for target, want := range map[string]string{
		"/":                        `backend.internal /index.html www.example.com ""`,
		"/?a":                      `backend.internal /index.html?a www.example.com ""`,
		"/v1/a%20b?debug=1&x=%26y": `backend.internal /api/1/a%20b?source=legacy&x=%26y www.example.com ""`,
		"/v1/plain":                `backend.internal /api/1/plain?source=legacy www.example.com ""`,
		"/other//path?q=%zz":       `backend.internal /other//path?q=%zz www.example.com ""`,
	} {
		res, body, _ := m.ask("GET", target, "192.0.2.1", "", "Host: WWW.Example.com:8080", "X-Debug: on")
		if body != want {
			t.Errorf("GET %s: the server got %s, not %s", target, body, want)
		}
		if res.Header.Get("Server") != "" || res.Header.Get("X-Powered-By") != "" || res.Header.Get("Strict-Transport-Security") == "" {
			t.Errorf("GET %s: %v", target, res.Header)
		}
		wantCookies := []string{"a=1; Path=/; httponly; secure; samesite=Lax", "b=2; httponly; secure; samesite=Lax"}
		if diff := cmp.Diff(wantCookies, res.Header["Set-Cookie"]); diff != "" {
			t.Errorf("cookies (-want +got):\n%s", diff)
		}
	}
	res, _, _ := m.ask("GET", "/moved", "192.0.2.1", "", "Host: www.example.com")
	if got := res.Header.Get("Location"); got != "https://www.example.com/to?x=http://backend.internal" {
		t.Errorf("Location: %s", got)
	}
	res, _, rec := m.ask("GET", "/secure/a%20b?c", "192.0.2.1", "", "Host: www.example.com:8080")
	if got := res.Header.Get("Location"); res.StatusCode != 301 || got != "https://www.example.com/secure/a%20b?c" || rec.Tried != 0 {
		t.Errorf("%d, Location %s, %d servers tried", res.StatusCode, got, rec.Tried)
	}
}

// Bodies of requests are looked at before a server gets them, which gets them
// whole.
func TestMovedBodyInspection(t *testing.T) {
	const script = `
-- HTTP_REQ
local ctype = avi.http.get_header("Content-Type") or ""
if avi.http.method() == avi.HTTP_POST and ctype:contains("json") then
    avi.http.set_request_body_buffer_size(32)
    avi.vs.reqvar.inspect = true
end
-- HTTP_REQ_DATA
if avi.vs.reqvar.inspect then
    local body = avi.http.get_req_body(32)
    if body then
        for _, word in ipairs({"<script", "union select", "../"}) do
            if string.find(string.lower(body), word, 1, true) then
                avi.vs.log("refused, found " .. word)
                avi.vs.analytics.counter("refused", avi.vs.analytics.INCR, 1)
                avi.http.response(400, {content_type = "text/plain"}, "bad request")
                return
            end
        end
        avi.http.add_header("X-Body-Hash", avi.utils.sha1_hash(body))
        local tenant = string.match(body, '"tenant"%s*:%s*"(%w+)"')
        if tenant and pcall(avi.pool.select, "tenant-" .. tenant) then
            avi.vs.log("tenant ", tenant)
        end
    end
end
`
	m := move(t, script, []movedPool{{"everyone", 1}, {"tenant-blue", 1}}, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s", r.Header.Get("X-Body-Hash"), body)
	}, nil)
	const kind = "Content-Type: application/json; charset=utf-8"
	large := `{"tenant":"blue","pad":"` + strings.Repeat("x", 32<<10) + `"}`
	for _, c := range []struct {
		name, body, kind string
		status           int
		pool, answer     string
	}{
		{"good", `{"a":1}`, kind, 200, "everyone", "9f89c740ceb46d7418c924a78ac57941d5e96520 "},
		{"tenant", `{"tenant": "blue"}`, kind, 200, "tenant-blue", ""},
		{"unknown tenant", `{"tenant": "red"}`, kind, 200, "everyone", ""},
		{"bad", `{"a":"UNION SELECT *"}`, kind, 400, "", "bad request"},
		{"bad but not looked at", "<script", "Content-Type: text/plain", 200, "everyone", " <script"},
		{"too large to look at", large, kind, 413, "", ""},
		{"large but not looked at", large, "Content-Type: text/plain", 200, "everyone", " " + large},
		{"empty", "", kind, 200, "everyone", " "},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := &moved{T: t, site: m.site, recs: m.recs}
			res, body, rec := m.ask("POST", "/", "192.0.2.1", c.body, c.kind)
			if res.StatusCode != c.status || rec.Pool != c.pool || !strings.HasPrefix(body, c.answer) {
				t.Errorf("status %d, pool %q, answer %.100q", res.StatusCode, rec.Pool, body)
			}
			if hash, sent, _ := strings.Cut(body, " "); c.status == 200 && (sent != c.body || (c.kind == kind && c.body != "") != (len(hash) == 40)) {
				t.Errorf("the server got %.100q with hash %q", sent, hash)
			}
		})
	}
}
