package acceptance_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/ipgroup"
	"github.com/limpetlb/limpet/ipgroup/geoip"
	"github.com/limpetlb/limpet/policy"
)

// Own networks are geo data for rules, for scripts and for the record, and
// groups name the place before them.
func TestLocation(t *testing.T) {
	own, err := geoip.ParseTable([]byte("prefix;country code;city;as number\n81.2.69.0/24;GB;Boxford;64500\n10.2.0.0/16;US;Los Angeles;\n89.160.20.0/24;SE;;"))
	if err != nil {
		t.Fatal(err)
	}
	geo, err := geoip.NewLayers(geoip.Layer{Source: own})
	if err != nil {
		t.Fatal(err)
	}
	office, err := ipgroup.Parse("LA_Office", []string{"10.1.0.0/16"}, ipgroup.Options{})
	if err != nil {
		t.Fatal(err)
	}
	nordic, err := ipgroup.Parse("Nordic", []string{"SE, AS64511"}, ipgroup.Options{Countries: geo, ASNs: geo})
	if err != nil {
		t.Fatal(err)
	}
	groups, err := ipgroup.NewSet(office, nordic)
	if err != nil {
		t.Fatal(err)
	}
	var log logged
	var last limpet.Record
	config := limpet.Config{
		IPGroups: groups,
		Geo:      geo,
		Policies: limpet.Policies{HTTPSecurity: []policy.SecurityRule{{
			Name: "Boxford", Match: policy.Match{Geo: &policy.GeoMatch{Attribute: geoip.CityName, Values: []string{"boxford"}}}, Action: policy.Respond{Status: 403},
		}}},
		Scripts: []limpet.Script{compile(t, "Where", `-- HTTP_REQ
			avi.http.response(200, {}, tostring(avi.utils.get_geo_from_ip(avi.vs.client_ip())) .. " " .. tostring(avi.utils.get_geo_from_ip(avi.vs.client_ip(), "CITY_NAME")))`)},
		Logger:     log.logger(slog.LevelInfo),
		OnComplete: func(r limpet.Record) { last = r },
	}
	vs, err := limpet.New(config)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(client string) (int, string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = netip.AddrPortFrom(netip.MustParseAddr(client), 1234).String()
		w := httptest.NewRecorder()
		vs.Wrap(http.NotFoundHandler()).ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	for _, tt := range []struct {
		client, body, location string
		status                 int
	}{
		{"10.1.2.3", "nil nil", "LA_Office", 200},
		{"10.2.2.3", "US Los Angeles", "US", 200}, // as rules and scripts have it
		{"10.3.2.3", "nil nil", ipgroup.Internal, 200},
		{"89.160.20.7", "SE nil", "Nordic", 200},
		{"81.2.69.7", "", "GB", 403},
		{"198.51.100.7", "nil nil", "", 200},
	} {
		status, body := ask(tt.client)
		if status != tt.status || status == 200 && body != tt.body {
			t.Errorf("%s: %d %q, want %d %q", tt.client, status, body, tt.status, tt.body)
		}
		if last.Location != tt.location {
			t.Errorf("%s: location %q, want %q", tt.client, last.Location, tt.location)
		}
		lines := log.lines(t)
		if got, _ := lines[len(lines)-1]["location"].(string); got != tt.location {
			t.Errorf("%s: location in the log: %q, want %q", tt.client, got, tt.location)
		}
	}

	// Without groups there is the geo data, and with neither nothing.
	config.IPGroups = nil
	for _, want := range []string{"SE", ""} {
		if err := vs.Update(config); err != nil {
			t.Fatal(err)
		}
		if ask("89.160.20.7"); last.Location != want {
			t.Errorf("without groups: location %q, want %q", last.Location, want)
		}
		config.Geo, config.HTTPSecurity, config.Scripts = nil, nil, nil
	}
	// Geo data that panics costs the location, not the record.
	config.Geo = brokenGeo{}
	if err := vs.Update(config); err != nil {
		t.Fatal(err)
	}
	last = limpet.Record{}
	if status, _ := ask("89.160.20.7"); status != 404 || last.Status != 404 || last.Location != "" {
		t.Errorf("broken geo data: status %d, record %+v", status, last)
	}
	// A rule for what the data does not have is refused.
	config.Geo = geo
	config.HTTPSecurity = []policy.SecurityRule{{Name: "r", Match: policy.Match{Geo: &policy.GeoMatch{Attribute: "CITY", Values: []string{"x"}}}, Action: policy.Close{}}}
	if err := vs.Update(config); err == nil || !strings.Contains(err.Error(), `httpSecurity[0].match.geo.attribute: "CITY": the geo data has no such attribute`) {
		t.Errorf("unknown attribute: %v", err)
	}
}

type brokenGeo struct{}

func (brokenGeo) Locate(netip.Addr, string) (string, bool) { panic("no data") }
