package acceptance_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/transparency"
	"github.com/limpetlb/limpet/lbpool"
)

func TestTransparency(t *testing.T) {
	t.Run("wrapped", func(t *testing.T) {
		transparency.Run(t, transparency.Target{
			Middleware: func(t testing.TB, next http.Handler) http.Handler {
				return newVirtualService(t, watched(t)).Wrap(next)
			},
		})
	})
	forwarding := func(transport func() http.RoundTripper) func(testing.TB, *url.URL) http.Handler {
		return func(t testing.TB, origin *url.URL) http.Handler {
			cfg := watched(t)
			cfg.Pools = []*lbpool.Pool{poolOf(t, lbpool.ServerConfig{Address: origin.Host})}
			cfg.Transport = transport()
			return newVirtualService(t, cfg)
		}
	}
	t.Run("proxied", func(t *testing.T) {
		const hasty = 300 * time.Millisecond
		transparency.Run(t, transparency.Target{
			Proxy: forwarding(func() http.RoundTripper { return nil }),
			Hasty: forwarding(func() http.RoundTripper {
				transport := lbpool.NewBase()
				transport.ResponseHeaderTimeout = hasty
				return transport
			}),
			HeaderTimeout: hasty,
		})
	})
	t.Run("proxied by http.Transport", func(t *testing.T) {
		transparency.Run(t, transparency.Target{
			Proxy: forwarding(func() http.RoundTripper { return lbpool.NewBase() }),
			Only: []string{
				"end-to-end headers", "hop-by-hop request headers", "hop-by-hop request trailers", "hop-by-hop response headers",
				"hop-by-hop response headers of a server that closes", "hop-by-hop trailers", "hop-by-hop headers of early hints",
				"hop-by-hop headers of an upgrade", "trailers",
			},
			Known: map[string]string{
				"hop-by-hop response headers of a server that closes": "http.ReadResponse takes Connection away when it holds close",
			},
		})
	})
}

// watched is a configuration whose records must tell of each event once: of the
// request, and of the response unless there was none, or one of our own.
func watched(t testing.TB) limpet.Config {
	return limpet.Config{
		Scripts: []limpet.Script{compile(t, "events", `-- HTTP_REQ
avi.vs.log("request")
-- HTTP_RESP
avi.vs.log("response ", avi.http.status())
`)},
		OnComplete: func(rec limpet.Record) {
			var got []string
			for _, line := range rec.Log {
				_, event, _ := strings.Cut(line, ": ") // behind the place
				got = append(got, event)
			}
			want := []string{"request"}
			switch gone := slices.Contains(rec.Significant, limpet.ClientGone); {
			case rec.Error != nil && len(got) == 2:
				want = append(want, got[1]) // it failed after the event
			case rec.Error == nil && rec.Status != 0 && !gone || gone && len(got) == 2:
				want = append(want, fmt.Sprint("response ", rec.Status))
			}
			if !slices.Equal(got, want) || len(rec.ScriptErrors) > 0 {
				t.Errorf("events %q, want %q; record %+v", got, want, rec)
			}
		},
	}
}
