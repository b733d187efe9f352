package scriptfile_test

import (
	"strings"
	"testing"

	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/scriptfile"
)

func TestCompile(t *testing.T) {
	const listing = "-- HTTP Request Event --\navi.vs.log('a')\n"
	for name, c := range map[string]struct {
		file, name string
		event      datascript.Event
		source     string
		want       string // the name, or a part of the error behind "!"
	}{
		"headings":                     {file: "/etc/limpet/stick.lua", source: listing, want: "stick"},
		"a name":                       {file: "stick.lua", name: "other", source: listing, want: "other"},
		"an event":                     {file: "stick.lua", event: datascript.HTTPReq, source: "avi.vs.log('a')", want: "stick"},
		"called like an event":         {file: "http_req.lua", source: "avi.vs.log('a')", want: "http_req"},
		"no event":                     {file: "stick.lua", source: "avi.vs.log('a')", want: "!code before the first event heading"},
		"called like another protocol": {file: "dns_req.lua", source: "avi.vs.log('a')", want: "!not supported"},
		"a listing called like that":   {file: "dns_req.lua", source: listing, want: "dns_req"},
		"a fault":                      {file: "http_req.lua", source: "x =", want: "!:1: unexpected symbol"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := scriptfile.Compile(c.file, c.name, c.event, c.source)
			if text, fails := strings.CutPrefix(c.want, "!"); fails {
				if err == nil || !strings.Contains(err.Error(), text) {
					t.Errorf("error %v, want %q", err, text)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if s.Name() != c.want {
				t.Errorf("the name is %q, want %q", s.Name(), c.want)
			}
		})
	}
}
