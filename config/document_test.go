package config

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/internal/testcerts"
)

// The document names every field, type and pool algorithm of a configuration,
// and its examples are configurations.
func TestDocument(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../docs/reference/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	named := func(name string) {
		if !strings.Contains(text, "`"+name+"`") && !regexp.MustCompile(`[\s{]`+name+`: `).MatchString(text) && !strings.Contains(text, " "+name+":\n") {
			t.Errorf("no word of %s", name)
		}
	}
	seen := map[reflect.Type]bool{}
	var look func(reflect.Type)
	look = func(typ reflect.Type) {
		if seen[typ] || typ.PkgPath() == "net/netip" {
			return
		}
		seen[typ] = true
		for i, name := range typeNames(unions[typ]) {
			if !strings.Contains(text, ": "+name) { // which is enough as well
				named(name)
			}
			look(unions[typ][i])
		}
		switch typ.Kind() {
		case reflect.Pointer, reflect.Slice:
			look(typ.Elem())
		case reflect.Struct:
			for _, f := range fieldsOf(typ).list {
				named(fielderr.Name(f.Name))
				look(f.Type)
			}
		}
	}
	look(reflect.TypeFor[document]())

	parts := strings.Split(text, "```yaml\n")[1:]
	if len(parts) != 5 {
		t.Fatalf("%d examples", len(parts))
	}
	for i, want := range []string{"", "", "", "", "rules[3] \"moved\""} {
		example, _, _ := strings.Cut(parts[i], "```")
		f, errs := loaded(t, exampleFiles(t, example), "limpet.yaml")
		if errs != "" {
			t.Fatalf("example %d: %s", i, errs)
		}
		rt, err := f.Build(Options{Offline: true})
		if err != nil {
			t.Fatal(err)
		}
		vs, _ := rt.Service(f.Services()[0])
		if got := vs.Explain(httptest.NewRequest(http.MethodGet, "http://a/", nil)); !strings.Contains(got, want) {
			t.Errorf("example %d: no %q in %s", i, want, got)
		}
	}
}

// The document names no key that does not exist: each word in code is a key, a
// type or a constant, or one of these values.
func TestDocumentedKeysExist(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/reference/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	var schema any
	if err := json.Unmarshal(madeSchema(t), &schema); err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{"true": true, "false": true, "stderr": true, "stdout": true, "localhost": true, "limpet": true, "web": true, "sub": true}
	var look func(any)
	look = func(n any) {
		switch n := n.(type) {
		case []any:
			for _, n := range n {
				look(n)
			}
		case map[string]any:
			properties, _ := n["properties"].(map[string]any)
			for key := range properties {
				known[key] = true
			}
			words, _ := n["enum"].([]any)
			for _, word := range words {
				known[strings.ReplaceAll(strings.ToLower(fmt.Sprint(word)), " ", "")] = true
			}
			for _, n := range n {
				look(n)
			}
		}
	}
	look(schema)
	words := regexp.MustCompile("`([a-z][A-Za-z0-9]*)`").FindAllStringSubmatch(string(text), -1)
	for _, m := range words {
		if !known[m[1]] && !known[strings.ToLower(m[1])] {
			t.Errorf("there is no key %s", m[1])
		}
	}
	if len(words) < 400 {
		t.Errorf("%d words", len(words))
	}
}

// exampleFiles are an example, and what those in the documents name.
func exampleFiles(t *testing.T, example string) map[string]string {
	files := map[string]string{
		"limpet.yaml": example, "stick.lua": "-- HTTP_REQ\n", "places.txt": placesTable,
		"users":       "ann:$2y$04$xqeLw8BGEwYfUIvA4Pezj.RNSRAOBvhfHtghmz7H/sGBP1v00.Biy\n",
		"partner.pem": `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`, // RFC 8037, A.2
	}
	if strings.Contains(example, "cookie-2026-12.key") {
		files["cookie-2026-12.key"] = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n"
	}
	if strings.Contains(example, "countries.mmdb") {
		database, err := os.ReadFile("../examples/geoacl/countries.mmdb")
		if err != nil {
			t.Fatal(err)
		}
		files["countries.mmdb"] = string(database)
	}
	if strings.Contains(example, "tls:") {
		_, _ = certificateFiles(t, files)
	}
	return files
}

// certificateFiles adds the certificates that examples name. It returns the
// authority of the servers, and the certificate of a client.
func certificateFiles(t *testing.T, files map[string]string) (servers *testcerts.Authority, client *testcerts.Cert) {
	servers, clients := testcerts.NewAuthority(t, "servers"), testcerts.NewAuthority(t, "clients")
	putCert(t, files, "shop", servers.Issue(t, nil, "www.shop.example", "partners.shop.example"))
	putCert(t, files, "shop-rsa", servers.IssueRSA(t, nil, "www.shop.example"))
	more := servers.Issue(t, nil, "more.shop.example")
	files["certs/more.pem"] = more.PEM() + more.KeyPEM(t)
	files["internal-ca.pem"] = servers.PEM()
	files["clients-ca.pem"], files["clients.crl"] = clients.PEM(), clients.Revoke(t, time.Now().Add(time.Hour), nil)
	return servers, clients.Issue(t, nil)
}

// The examples of the guide to TLS serve.
func TestTLSGuide(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/guides/tls.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$").FindAllStringSubmatch(string(text), -1)
	if len(examples) != 6 {
		t.Fatalf("%d examples", len(examples))
	}
	for i, want := range []map[string]string{
		{"www.shop.example": "HTTP/2.0 200 ok"},
		{"www.shop.example": "HTTP/2.0 200 ok", "more.shop.example": "HTTP/2.0 200 ok"},
		{},                                      // the issuer of this test issues nothing
		{"www.shop.example": "HTTP/2.0 200 ok"}, // with the certificate of the file
		{"www.shop.example": "HTTP/2.0 200 ok"},
		{"www.shop.example": "HTTP/2.0 200 ok", "partners.shop.example": "Get", "client partners.shop.example": "HTTP/2.0 200 ok"},
	} {
		files := map[string]string{"limpet.yaml": examples[i][1]}
		servers, cert := certificateFiles(t, files)
		h := open(t, files, Options{Issuer: newDesk(), Edit: func(_ string, c *limpet.Config) {
			c.Transport = transport(func(r *http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("ok")), Request: r}, nil
			})
		}})
		for name, want := range want {
			host := strings.TrimPrefix(name, "client ")
			client := &tls.Config{ServerName: host, RootCAs: servers.Pool()}
			if host != name {
				client.Certificates = []tls.Certificate{cert.TLS()}
			}
			got, _ := h.ask(h.Listeners()[0].Name, host, client)
			if got != want && (want != "Get" || !strings.HasPrefix(got, want)) { // an error begins so
				t.Errorf("example %d, %s: %s, not %s", i, name, got, want)
			}
		}
	}
}

// transport is a function that answers requests to servers.
type transport func(r *http.Request) (*http.Response, error)

// RoundTrip implements [http.RoundTripper].
func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// The file of the guide to production answers monitors, redirects to HTTPS,
// and keeps a client on its server by a cookie.
func TestProductionGuide(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/guides/production.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := fencedYAML.FindAllStringSubmatch(string(text), -1)
	if len(examples) != 1 {
		t.Fatalf("%d examples", len(examples))
	}
	here := filepath.ToSlash(t.TempDir())
	changes := []string{"/var/lib/limpet", here, "/var/log/limpet", here, "delay: 5s, ", ""}
	for _, address := range []string{"10.0.0.1:8080", "10.0.0.2:8080"} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, address) }))
		t.Cleanup(server.Close)
		changes = append(changes, address, server.Listener.Addr().String())
	}
	files := exampleFiles(t, strings.NewReplacer(changes...).Replace(examples[0][2]))
	servers, _ := certificateFiles(t, files)
	h := open(t, files, Options{})
	cookies, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{
		Jar:           cookies,
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{ServerName: "www.shop.example", RootCAs: servers.Pool()}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	defer client.CloseIdleConnections()
	get := func(url string) string {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(res.StatusCode, " ", res.Header.Get("Strict-Transport-Security"), string(body))
	}
	if got := get("http://" + h.at["http"] + "/limpet/alive"); !strings.HasPrefix(got, "200 ") {
		t.Errorf("a monitor gets %s", got)
	}
	if got := get("http://" + h.at["http"] + "/"); !strings.HasPrefix(got, "30") {
		t.Errorf("plain HTTP gets %s", got)
	}
	first := get("https://" + h.at["https"] + "/")
	if !strings.HasPrefix(first, "200 max-age") {
		t.Errorf("a client gets %s", first)
	}
	for range 5 {
		if got := get("https://" + h.at["https"] + "/"); got != first {
			t.Errorf("a client with a cookie gets %s after %s", got, first)
		}
	}
}

// Every YAML file in the documents is a configuration without a fault. Those of
// guides name no more files than the ones here.
func TestDocumentsCheck(t *testing.T) {
	t.Parallel()
	names := []string{"../README.md"}
	err := filepath.WalkDir("../docs", func(name string, _ fs.DirEntry, err error) error {
		if filepath.Ext(name) == ".md" {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	files := 0
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range fencedYAML.FindAllStringSubmatch(string(text), -1) {
			files++
			example := strings.ReplaceAll("\n"+m[2], "\n"+m[1], "\n")
			if _, errs := loaded(t, exampleFiles(t, example), "limpet.yaml"); errs != "" {
				t.Errorf("%s: %s\n%s", name, example, errs)
			}
		}
	}
	if files < 5 {
		t.Errorf("%d files", files)
	}
}
