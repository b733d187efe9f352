package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"

	"github.com/limpetlb/limpet/config"
	"github.com/limpetlb/limpet/internal/testcerts"
	"github.com/limpetlb/limpet/internal/testfiles"
)

// compiledSchema is that of configurations.
func compiledSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(config.Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("limpet.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("limpet.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// examples are all configurations in the documents and in testdata, by where
// they are.
func examples(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	fenced := regexp.MustCompile("(?ms)^( *)```yaml\n(.*?)^ *```$")
	names := []string{"../../README.md"}
	err := filepath.WalkDir("../../docs", func(name string, _ fs.DirEntry, err error) error {
		if filepath.Ext(name) == ".md" {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for i, m := range fenced.FindAllStringSubmatch(string(text), -1) {
			all[fmt.Sprintf("%s, example %d", name, i)] = strings.ReplaceAll("\n"+m[2], "\n"+m[1], "\n")
		}
	}
	for _, name := range []string{"shop/shop.yaml", "hello.yaml"} {
		text, err := os.ReadFile("../../config/testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = string(text)
	}
	return all
}

// exampleDir has what the examples name.
var exampleDir = fstest.MapFS{
	"stick.lua":     {Data: []byte("-- HTTP_REQ\nx = 1\n")},
	"http_resp.lua": {Data: []byte("x = 1\n")},
	"partners.txt":  {Data: []byte("192.0.2.0/28\n")},
	"places.txt":    {Data: []byte("prefix; country code\n198.51.100.0/24; NL\n")},
}

// exampleFiles are exampleDir with what the examples of TLS name.
func exampleFiles(t *testing.T) fstest.MapFS {
	files := maps.Clone(exampleDir)
	put := func(name string, texts ...string) {
		files[name] = &fstest.MapFile{Data: []byte(strings.Join(texts, ""))}
	}
	servers, clients := testcerts.NewAuthority(t, "servers"), testcerts.NewAuthority(t, "clients")
	shop, rsa := servers.Issue(t, nil, "www.shop.example"), servers.IssueRSA(t, nil, "www.shop.example")
	put("shop.crt", shop.PEM())
	put("shop.key", shop.KeyPEM(t))
	put("shop-rsa.crt", rsa.PEM())
	put("shop-rsa.key", rsa.KeyPEM(t))
	put("certs/more.pem", shop.PEM(), shop.KeyPEM(t))
	put("clients-ca.pem", clients.PEM())
	put("internal-ca.pem", servers.PEM())
	countries, err := os.ReadFile("../../examples/geoacl/countries.mmdb")
	if err != nil {
		t.Fatal(err)
	}
	put("countries.mmdb", string(countries))
	put("cookie-2026-12.key", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
	put("clients.crl", clients.Revoke(t, time.Now().Add(time.Hour), nil))
	return files
}

// watchedFiles are those that the examples name and that are watched, for which
// a text that is no file needs absolute names.
var watchedFiles = map[string]string{
	"users":       "ann:$2y$04$xqeLw8BGEwYfUIvA4Pezj.RNSRAOBvhfHtghmz7H/sGBP1v00.Biy\n",
	"partner.pem": `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`, // RFC 8037, A.2
}

// Whatever is an example passes the schema and Parse. When a value of an
// example becomes one of another kind, or a mapping gets a key that nothing
// knows, both refuse it. Where Parse finds no fault, the schema never does.
func TestSchema(t *testing.T) {
	schema := compiledSchema(t)
	dir, files := testfiles.Write(t, watchedFiles), exampleFiles(t)
	absolute := strings.NewReplacer(`"file":"users"`, `"file":"`+dir+`/users"`, `"file":"partner.pem"`, `"file":"`+dir+`/partner.pem"`)
	refused, accepted := 0, 0
	for name, text := range examples(t) {
		var doc any
		if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
			t.Fatal(err)
		}
		judge := func(doc any) (bySchema, byParse error) {
			text, err := json.Marshal(doc)
			if err != nil {
				t.Fatal(err)
			}
			value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			_, byParse = config.Parse(t.Context(), "text", []byte(absolute.Replace(string(text))), files)
			return schema.Validate(value), byParse
		}
		if bySchema, byParse := judge(doc); bySchema != nil || byParse != nil {
			t.Errorf("%s: schema: %v\nParse: %v", name, bySchema, byParse)
			continue
		}
		changeEach(doc, "", func(m any) { doc = m }, func(path, what string) {
			bySchema, byParse := judge(doc)
			switch {
			case bySchema != nil && byParse != nil:
				refused++
			case bySchema != nil:
				t.Errorf("%s: %s %s: refused by the schema only: %v", name, path, what, bySchema)
			case byParse != nil && !free.MatchString(path) && !(what == "as a text" && named.MatchString(path)):
				t.Errorf("%s: %s %s: refused by Parse only: %v", name, path, what, byParse)
			default:
				accepted++
			}
		})
	}
	if refused < 1000 || accepted > refused/10 {
		t.Errorf("%d refused, %d accepted", refused, accepted)
	}
}

// free are mappings whose keys and values may be any text.
var free = regexp.MustCompile(`\.(map|servers|header)$`)

// named are mappings in whose place there may be the name of an object, which
// must be one, or a key.
var named = regexp.MustCompile(`\.persistence$|\.secret$|^\.services\[\d+\]\.[A-Za-z]+\[\d+\]$`)

// changeEach changes each value in v in turn, calls try, and changes it back.
// It sets v itself by set.
func changeEach(v any, path string, set func(any), try func(path, what string)) {
	change := func(other any, what string) {
		set(other)
		try(path, what)
		set(v)
	}
	switch v := v.(type) {
	case map[string]any:
		v["unknownKey"] = 1
		try(path, "with an unknown key")
		delete(v, "unknownKey")
		change([]any{v}, "in a list")
		change("text", "as a text")
		for key, item := range v {
			changeEach(item, path+"."+key, func(m any) { v[key] = m }, try)
		}
	case []any:
		change(map[string]any{"some": v}, "in a mapping")
		change(true, "as a truth")
		for i, item := range v {
			changeEach(item, fmt.Sprintf("%s[%d]", path, i), func(m any) { v[i] = m }, try)
		}
	default:
		change([]any{v}, "in a list")
		change(map[string]any{"unknownKey": v}, "in a mapping")
	}
}

// Words that are none, texts that are no numbers, truths, times and sizes, and
// numbers out of bounds.
func TestSchemaWords(t *testing.T) {
	schema := compiledSchema(t)
	for text, want := range map[string]bool{
		"httpSecurity: [{name: a, action: close}]":                                                                    true,
		"httpSecurity: [{name: a, action: clsoe}]":                                                                    false,
		"httpSecurity: [{name: a, action: {close: {}, allow: {}}}]":                                                   false,
		"httpSecurity: [{name: a, action: {close: }}]":                                                                true,
		"httpSecurity: [{name: a, action: close, match: {path: {op: BeginsWith, values: [/]}}}]":                      true,
		"httpSecurity: [{name: a, action: close, match: {path: {op: begins-with, values: [/]}}}]":                     true,
		"httpSecurity: [{name: a, action: close, match: {path: {op: starts with, values: [/]}}}]":                     false,
		"networkSecurity: [{name: a, action: Deny}]\nhttpSecurity: [{name: a, action: close}]":                        true,
		"networkSecurity: [{name: a, action: dance}]\nhttpSecurity: [{name: a, action: close}]":                       false,
		"requestBody: {bytes: 64 KiB}\nhttpSecurity: [{name: a, action: close}]":                                      true,
		"requestBody: {bytes: 64K}\nhttpSecurity: [{name: a, action: close}]":                                         false,
		"instances: two\nhttpSecurity: [{name: a, action: close}]":                                                    false,
		"instances: 2.5\nhttpSecurity: [{name: a, action: close}]":                                                    false,
		"instances: '2'\nhttpSecurity: [{name: a, action: close}]":                                                    true,
		"instances: {env: LIMPET_NONE, default: 2}\nhttpSecurity: [{name: a, action: close}]":                         true,
		"instances: {env: LIMPET_NONE, other: 2}\nhttpSecurity: [{name: a, action: close}]":                           false,
		"name: {env: [a]}\nhttpSecurity: [{name: a, action: close}]":                                                  false,
		"name: 12\nhttpSecurity: [{name: a, action: close}]":                                                          true,
		"name: ~\nhttpSecurity: [{name: a, action: close}]":                                                           true,
		"logging: {slowResponse: 1h30m}\nhttpSecurity: [{name: a, action: close}]":                                    true,
		"logging: {slowResponse: .5s}\nhttpSecurity: [{name: a, action: close}]":                                      true,
		"logging: {slowResponse: 0}\nhttpSecurity: [{name: a, action: close}]":                                        true,
		"logging: {slowResponse: 30}\nhttpSecurity: [{name: a, action: close}]":                                       false,
		"logging: {slowResponse: soon}\nhttpSecurity: [{name: a, action: close}]":                                     false,
		"pools: [{name: a, servers: [{address: 10.0.0.1:80, ratio: 20}]}]":                                            true,
		"pools: [{name: a, servers: [{address: 10.0.0.1:80, ratio: 0}]}]":                                             false,
		"pools: [{name: a, servers: [{address: 10.0.0.1:80, ratio: 21}]}]":                                            false,
		"pools: [{name: a, servers: [{address: 10.0.0.1:80, ratio: -1}]}]":                                            false,
		"pools: [{name: a, servers: [{address: 10.0.0.1:80, ratio: {env: LIMPET_NONE, default: 20}}]}]":               true,
		"strictSelect: 'true'\nhttpSecurity: [{name: a, action: close}]":                                              false,
		"trustedProxies: [10.0.0.0/8, '2001:db8::/32']\nhttpSecurity: [{name: a, action: close}]":                     true,
		"trustedProxies: [example.com]\nhttpSecurity: [{name: a, action: close}]":                                     false,
		"pools: [{name: a, servers: [{address: 10.0.0.1:80}]}]\npersistence: {httpCookie: {sameSite: LAX}}":           true,
		"pools: [{name: a, servers: [{address: 10.0.0.1:80}]}]\npersistence: {httpCookie: {sameSite: lux}}":           false,
		"pools: [{name: a, servers: [{address: 10.0.0.1:80}]}]\npersistence: {httpCookie: {keys: [{secret: 'h h'}]}}": false,
	} {
		var doc any
		if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
			t.Fatal(err)
		}
		asJSON, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
		if err != nil {
			t.Fatal(err)
		}
		bySchema := schema.Validate(value)
		_, byParse := config.Parse(t.Context(), "text", []byte(text), nil)
		if (bySchema == nil) != want || (byParse == nil) != want {
			t.Errorf("%s\nschema: %v\nParse: %v\nwant accepted: %v", text, bySchema, byParse, want)
		}
	}
}
