package datascript

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

// reference lists all functions of the published API: those of the first
// HTTP release, later ones that have to do with HTTP, and those for other
// protocols, which say that they are not supported.
var reference = []struct {
	priority string
	names    []string
}{
	{"P1", []string{
		"string.beginswith", "string.contains", "string.endswith", "string.len", "string.lower", "string.sub",
		"string.upper",
		"avi.vs.client_ip", "avi.vs.client_port", "avi.vs.ip", "avi.vs.log", "avi.vs.name", "avi.vs.port",
		"avi.vs.reqvar", "avi.vs.table_insert", "avi.vs.table_lookup", "avi.vs.table_refresh", "avi.vs.table_remove",
		"avi.http.add_cookie", "avi.http.add_header", "avi.http.close_conn", "avi.http.cookie_exists", "avi.http.get_cookie",
		"avi.http.get_cookie_names", "avi.http.get_header", "avi.http.get_host_tokens", "avi.http.get_path",
		"avi.http.get_path_tokens", "avi.http.get_query", "avi.http.get_uri", "avi.http.get_userid", "avi.http.hostname",
		"avi.http.method", "avi.http.protocol", "avi.http.redirect", "avi.http.remove_cookie", "avi.http.remove_header",
		"avi.http.replace_cookie", "avi.http.replace_header", "avi.http.response", "avi.http.scheme", "avi.http.secure",
		"avi.http.set_path", "avi.http.set_query", "avi.http.set_uri", "avi.http.set_userid", "avi.http.status",
		"avi.pool.get_server_status", "avi.pool.get_servers", "avi.pool.select", "avi.pool.server_ip",
		"avi.ipgroup.contains",
		"avi.stringgroup.beginswith", "avi.stringgroup.beginswith_CASE", "avi.stringgroup.contains", "avi.stringgroup.contains_CASE",
		"avi.stringgroup.endswith", "avi.stringgroup.endswith_CASE", "avi.stringgroup.equals", "avi.stringgroup.equals_CASE",
		"avi.ssl.cipher", "avi.ssl.client_cert", "avi.ssl.protocol", "avi.ssl.server_name",
		"avi.crypto.decrypt", "avi.crypto.encrypt",
	}},
	{"P2", []string{
		"string.split",
		"avi.vs.rate_limit",
		"avi.vs.ratelimit.exceed", "avi.vs.rate.limit.exceed",
		"avi.vs.analytics.counter", "avi.vs.analytics.gauge", "avi.vs.analytics.get_metric", "avi.vs.analytics.get_counter",
		"avi.vs.get_open_conns", "avi.vs.se_count", "avi.vs.close_conn",
		"avi.http.disable", "avi.http.get_req_body", "avi.http.get_request_id", "avi.http.get_response_body",
		"avi.http.get_reqvar", "avi.http.internal_status", "avi.http.set_request_body_buffer_size", "avi.http.set_reqvar",
		"avi.http.set_response_body_buffer_size", "avi.http.set_server_timeout", "avi.http.update_cookie",
		"avi.http.saml_session_decrypt", "avi.http.oauth_get_claim",
		"avi.pool.chash", "avi.pool.get_server_info", "avi.pool.name",
		"avi.poolgroup.select",
		"avi.ssl.check_client_cert_validity", "avi.ssl.check_err_in_client_cert", "avi.ssl.get_tls_fingerprint",
		"avi.utils.base64_decode", "avi.utils.base64_encode", "avi.utils.uri_decode", "avi.utils.sha1_hash",
		"avi.utils.md5_hash", "avi.utils.murmur_hash", "avi.utils.rand_bytes", "avi.utils.get_geo_from_ip",
		"avi.utils.get_ip_reputation",
		"avi.utils.ip.netaddr",
		"avi.utils.ip_in_subnet",
	}},
	{"extensions", []string{
		"avi.jwt.verify", "avi.jwt.claims",
	}},
	{"P3", []string{
		"avi.vs.persist", "avi.vs.ds_done", "avi.vs.set_session_id", "avi.vs.se_intf_ip",
		"avi.pool.get_server_ip",
		"avi.ssl.set_ssl_profile", "avi.ssl.set_ssl_certificate", "avi.ssl.set_pki_profile", "avi.ssl.renegotiate",
		"avi.ssl.client_cert_verify_error", "avi.ssl.client_cert_verify_error_string", "avi.ssl.client_cert_verify_mode",
		"avi.ssl.client_cert_verified", "avi.ssl.clear_client_cert_verify_error",
		"avi.l4.read", "avi.l4.collect", "avi.l4.discard", "avi.l4.modify", "avi.l4.pause", "avi.l4.resume",
		"avi.l4.send", "avi.l4.ds_done", "avi.l4.do_lb", "avi.l4.get_active_ftp_port", "avi.l4.set_active_ftp_port",
		"avi.l4.open_passive_ftp_port",
		"avi.dns.read",
		"avi.gslb.add_records",
		"avi.horizon.get_server_ports",
	}},
}

// TestConformance counts what of the reference is there: each function of
// priority 1 and 2 works, and at least one case in datascripttest uses it; each
// of priority 3 raises that it is not supported. "make api" shows the
// counts.
func TestConformance(t *testing.T) {
	cases := caseSources(t)
	e := newEngine(t, Env{})
	var counts []string
	for _, group := range reference {
		good := 0
		for _, name := range group.names {
			if fault := checkName(t, e, cases, group.priority, name); fault != "" {
				t.Errorf("%s %s: %s", group.priority, name, fault)
			} else {
				good++
			}
		}
		count := group.priority + " " + strconv.Itoa(good)
		if group.priority == "P3" {
			count += " raise"
		} else {
			count += "/" + strconv.Itoa(len(group.names))
		}
		counts = append(counts, count)
	}
	t.Logf("conformance: %s", strings.Join(counts, ", "))
}

func checkName(t *testing.T, e *Engine, cases []string, priority, name string) (fault string) {
	sym := symbols[name]
	isUnsupported := slices.Contains(unsupportedNames, name)
	switch {
	case sym == nil:
		return "not declared"
	case priority == "P3" && !isUnsupported:
		return "supported, which the reference does not expect"
	case priority == "P3":
		_, err := runRequest(t, e, name+"()")
		if err == nil || !strings.HasSuffix(err.Error(), ": "+name+": not supported") {
			return fmt.Sprintf("error %v", err)
		}
		return ""
	case isUnsupported:
		return "not supported"
	}
	use := regexp.MustCompile(`(^|[^\w.])` + regexp.QuoteMeta(name) + `($|\W)`)
	method, isString := strings.CutPrefix(name, "string.")
	if !slices.ContainsFunc(cases, func(source string) bool {
		return use.MatchString(source) || isString && strings.Contains(source, ":"+method+"(")
	}) {
		return "no case in datascripttest/testdata/script uses it"
	}
	return ""
}

// caseSources returns the scripts of all cases, without comments.
func caseSources(t *testing.T) (sources []string) {
	files, err := filepath.Glob("datascripttest/testdata/script/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d cases, error %v", len(files), err)
	}
	comment := regexp.MustCompile(`--[^\n]*`)
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		lua := false // a heading of a listing begins what looks like a file
		for _, f := range txtar.Parse(data).Files {
			if _, err := ParseEvent(strings.TrimSuffix(f.Name, " Event")); err != nil {
				lua = strings.HasSuffix(f.Name, ".lua")
			}
			if lua {
				sources = append(sources, comment.ReplaceAllString(string(f.Data), ""))
			}
		}
	}
	return sources
}
