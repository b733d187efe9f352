package acceptance_test

import (
	"bytes"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/lbpool"
)

// A heading with a slip of the pen made its code part of the event above, and a
// script for HTTP_AUTH never ran without an authenticator, and nothing said so.
func TestScriptWarnings(t *testing.T) {
	var out bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	cfg := limpet.Config{Logger: logger, Scripts: []limpet.Script{
		compile(t, "near", "-- HTTP_REQ\nx = 1\n-- HTTP_RESPONS\ny = 1"),
		compile(t, "auth", "-- HTTP_AUTH\nx = 1"),
	}}
	if _, err := limpet.New(cfg); err != nil {
		t.Fatal(err)
	}
	want := []string{
		`level=WARN msg="doubtful script" vs=limpet script=near line=3 warning="\"-- HTTP_RESPONS\" is not an event; did you mean HTTP_RESP?"`,
		`level=WARN msg="event never runs: there is no authenticator" vs=limpet script=auth event=HTTP_AUTH`,
	}
	if diff := cmp.Diff(want, strings.Split(strings.TrimSpace(out.String()), "\n")); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
	out.Reset()
	cfg.Authenticator, cfg.Scripts = basic{}, cfg.Scripts[1:]
	if _, err := limpet.New(cfg); err != nil || out.Len() > 0 {
		t.Errorf("error %v, log %s", err, out.String())
	}
}

// A pool passed for a pool group, and a script in a service without pools was
// told of a pool "" that was not found.
func TestScriptsSayWhatIsMissing(t *testing.T) {
	source := "-- HTTP_REQ\navi.vs.log(select(2, pcall(avi.poolgroup.select, 'my_pool')))\navi.vs.log(select(2, pcall(avi.pool.get_servers)))"
	for _, tt := range []struct {
		name   string
		change func(*limpet.Config)
		want   []string
	}{
		{"a pool is no group", func(c *limpet.Config) {
			group, err := lbpool.NewGroup(lbpool.GroupConfig{Name: "g", Members: []lbpool.Member{{Pool: c.Pools[0], Ratio: 1}}})
			if err != nil {
				t.Fatal(err)
			}
			c.PoolGroups = []*lbpool.Group{group}
		}, []string{`[string "Events"]:2: pool group "my_pool" not found`, "11"}},
		{"no pools", func(c *limpet.Config) { c.Pools = nil }, []string{
			`[string "Events"]:2: avi.poolgroup.select: the virtual service has no pool groups`,
			`[string "Events"]:3: avi.pool.get_servers: the virtual service has no pools`,
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, record := serveOne(t, source, echo, tt.change, httptest.NewRequest("GET", "/", nil))
			if diff := cmp.Diff(tt.want, texts(record.Log)); diff != "" {
				t.Errorf("log (-want +got):\n%s", diff)
			}
		})
	}
}
