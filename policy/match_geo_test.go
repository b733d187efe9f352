package policy

import (
	"strings"
	"testing"
)

// A country that is none denied nobody, without a word: UK is GB, and a name or
// a blank is no code.
func TestGeoMatchCountries(t *testing.T) {
	env := Env{Geo: fakeGeo{}}
	for _, values := range [][]string{{"DE"}, {"de", "gb"}, {"XK"}} {
		if _, err := NewHTTPSecurity([]SecurityRule{{Name: "r", Match: Match{Geo: &GeoMatch{Values: values}}, Action: Close{}}}, env); err != nil {
			t.Errorf("%q: %v", values, err)
		}
	}
	for _, test := range []struct{ value, want string }{
		{"UK", `rules[0].match.geo.values[1]: "UK": not a country code of ISO 3166-1; that is "GB"`},
		{"uk", `"uk": not a country code of ISO 3166-1; that is "GB"`},
		{"Germany", `"Germany": not a country code of ISO 3166-1, such as "DE"`},
		{" KP", `" KP": not a country code`},
		{"KP ", `"KP ": not a country code`},
		{"DEU", `"DEU": not a country code`},
		{"EU", `"EU": not a country code`},
		{"", "values[1]: missing"},
	} {
		values := []string{"DE", test.value}
		_, err := NewHTTPSecurity([]SecurityRule{{Name: "r", Match: Match{Geo: &GeoMatch{Values: values}}, Action: Close{}}}, env)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: %v", test.value, err)
		}
		if _, err := NewNetworkSecurity([]NetworkRule{{Name: "r", Match: NetworkMatch{Geo: &GeoMatch{Values: values}}, Action: ActionReset}}, env); err == nil {
			t.Errorf("%q: accepted by network security", test.value)
		}
	}
	if _, err := NewHTTPSecurity([]SecurityRule{{Name: "r", Match: Match{Geo: &GeoMatch{Attribute: "city", Values: []string{"Uk"}}}, Action: Close{}}}, env); err != nil {
		t.Error(err)
	}
}
