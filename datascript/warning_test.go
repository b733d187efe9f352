package datascript

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWarnings(t *testing.T) {
	for _, tt := range []struct {
		name, source string
		want         []string
	}{
		{"none", "-- HTTP_REQ\nlocal h = avi.http.get_header('x') avi.vs.reqvar.anything = h or avi.HTTP_GET", nil},
		{"unknown", "-- HTTP_RESP\n\nif avi.http.get_method then\n  avi.drop()\nend\nx = avi.vs.client.ip\n-- HTTP_REQ\ny = avi.http.host", []string{
			"HTTP_REQ 8: avi.http.host: unknown, hence nil",
			"HTTP_RESP 3: avi.http.get_method: unknown, hence nil",
			"HTTP_RESP 4: avi.drop: unknown, hence nil",
			"HTTP_RESP 6: avi.vs.client: unknown, hence nil",
		}},
		{"unknown constant", "-- HTTP_REQ\navi.http.response(avi.HTTP_TEAPOT)", []string{"HTTP_REQ 2: avi.HTTP_TEAPOT: unknown, hence nil"}},
		{"not supported", "-- HTTP_REQ\npcall(avi.l4.read, 1)\nlocal f = function() avi.vs.ds_done() end", []string{
			"HTTP_REQ 2: avi.l4.read: not supported",
			"HTTP_REQ 3: avi.vs.ds_done: not supported",
		}},
		{"wrong event", "-- HTTP_REQ\nlocal s = avi.http.status()\nfunction later() return avi.http.status() end\n-- HTTP_RESP\navi.pool.select('p') later()", []string{
			"HTTP_REQ 2: avi.http.status: not allowed in event HTTP_REQ",
			"HTTP_RESP 5: avi.pool.select: not allowed in event HTTP_RESP",
		}},
		{"names of the script's own", "-- HTTP_REQ\nlocal avi = {nothing = 1}\nx = avi.nothing\nmine = {}\ny = mine.field", nil},
		{"computed", "-- HTTP_REQ\nlocal k = 'nothing'\nx = avi.http[k]", nil},
		{"in brackets", "-- HTTP_REQ\nx = avi['http']['nothing']", []string{"HTTP_REQ 2: avi.http.nothing: unknown, hence nil"}},
		{"of Lua's libraries", "-- HTTP_REQ\nx = string.nothing", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := mustCompile(t, Chunk{Source: tt.source})
			var got []string
			for _, w := range s.Warnings() {
				got = append(got, fmt.Sprintf("%v %v", w.Event, w))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		})
	}
}
