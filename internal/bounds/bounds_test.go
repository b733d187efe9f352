package bounds_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet/internal/bounds"
	"github.com/limpetlb/limpet/internal/fielderr"
)

type config struct {
	Interval time.Duration `default:"10s" min:"1ms" max:"1h"`
	Pause    time.Duration `min:"0s"`
	MaxBytes int           `max:"64MiB"`
	Ratio    int           `default:"1" min:"1" max:"20"`
	Index    int32         `min:"-1_000" max:"1_000"`
	Count    uint16        `min:"1"`
	Factor   float64       `default:"2" min:"1.5"`
	Free     int
	Limit    int     `default:"5" min:"3" max:"9" negative:"no limit"`
	Share    float64 `min:"1" negative:"none"`
	Rate
}

type Rate struct {
	Burst int `default:"7" max:"1GiB"`
}

func TestCheck(t *testing.T) {
	good := config{Count: 1, Share: 1}
	for _, c := range []struct {
		name   string
		change func(*config)
		want   string
	}{
		{"zeros", func(*config) {}, ""},
		{"at the bounds", func(c *config) {
			*c = config{Interval: time.Hour, MaxBytes: 64 << 20, Ratio: 20, Index: -1000, Count: 1, Factor: 1.5, Limit: 9, Share: 1, Rate: Rate{1 << 30}}
		}, ""},
		{"without bounds", func(c *config) { c.Free = -1; c.MaxBytes = -1 }, ""},
		{"zero without a default", func(c *config) { c.Count = 0 }, "a.count: 0: less than 1"},
		{"duration low", func(c *config) { c.Interval = 1 }, "a.interval: 1ns: less than 1ms"},
		{"duration high", func(c *config) { c.Interval = 2 * time.Hour }, "a.interval: 2h0m0s: more than 1h0m0s"},
		{"negative", func(c *config) { c.Pause = -time.Second }, "a.pause: -1s: negative"},
		{"negative with a meaning", func(c *config) { c.Limit, c.Share = -7, math.Inf(-1) }, ""},
		{"low, not negative", func(c *config) { c.Limit, c.Share = 2, 0 }, "a.limit: 2: less than 3\na.share: 0: less than 1"},
		{"high, not negative", func(c *config) { c.Limit = 10 }, "a.limit: 10: more than 9"},
		{"bytes", func(c *config) { c.MaxBytes = 64<<20 + 1 }, "a.maxBytes: 67108865: more than 64MiB"},
		{"several", func(c *config) { c.Ratio, c.Index = 21, -1001 }, "a.ratio: 21: more than 20\na.index: -1001: less than -1000"},
		{"float", func(c *config) { c.Factor = 1 }, "a.factor: 1: less than 1.5"},
		{"infinite", func(c *config) { c.Factor = math.Inf(-1) }, "a.factor: -Inf: less than 1.5"},
		{"embedded", func(c *config) { c.Burst = 1<<30 + 1 }, "a.burst: 1073741825: more than 1GiB"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := good
			c.change(&cfg)
			var faults fielderr.List
			bounds.Check("a", cfg, &faults)
			got := ""
			if err := faults.Err(); err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestNaN(t *testing.T) {
	var faults fielderr.List
	bounds.Check("", struct {
		F float64 `max:"1"`
	}{math.NaN()}, &faults)
	if err := faults.Err(); err == nil || err.Error() != "f: NaN: not a number" {
		t.Error(err)
	}
}

func TestSetDefaults(t *testing.T) {
	cfg := config{Ratio: 5, Free: 3}
	bounds.SetDefaults(&cfg)
	want := config{Interval: 10 * time.Second, Ratio: 5, Factor: 2, Free: 3, Limit: 5, Rate: Rate{7}}
	if diff := cmp.Diff(want, cfg); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestBadTags(t *testing.T) {
	for _, v := range []any{
		struct {
			A int `min:"x"`
		}{}, struct {
			A int8 `max:"128"`
		}{}, struct {
			A uint `min:"-1"`
		}{}, struct {
			A time.Duration `min:"1"`
		}{}, struct {
			A string `min:"1"`
		}{}, struct {
			A int `max:"9223372036854775807KiB"`
		}{},
	} {
		func() {
			defer func() {
				if p := fmt.Sprint(recover()); !strings.HasPrefix(p, "bounds: field A: ") {
					t.Errorf("%T: %s", v, p)
				}
			}()
			bounds.Check("", v, new(fielderr.List))
		}()
	}
}
