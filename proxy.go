package limpet

import (
	"log/slog"
	"net/http"
	"net/http/httputil"
	"sync"

	"github.com/limpetlb/limpet/lbpool"
)

// newProxy returns the handler that sends requests to servers.
func newProxy(s *snapshot) http.Handler {
	return &httputil.ReverseProxy{
		Rewrite:        rewrite,
		Transport:      &lbpool.Transport{Base: choosing{s.Transport}},
		ModifyResponse: upgrading,
		ErrorHandler:   serverFailed,
		ErrorLog:       slog.NewLogLogger(s.Logger.Handler(), slog.LevelDebug),
		BufferPool:     buffers{},
	}
}

// forwarding are the headers that tell a server about the client.
var forwarding = [...]string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"}

// rewrite prepares the request that a server gets. Where to send it is for
// the transport to say.
func rewrite(pr *httputil.ProxyRequest) {
	// ReverseProxy drops arguments that it cannot parse; servers may.
	pr.Out.URL.RawQuery = pr.In.URL.RawQuery
	// It gives the server a copy of the trailer. The values come into the
	// original, when the body has been read.
	pr.Out.Trailer = pr.In.Trailer

	tx, ok := TransactionFrom(pr.In.Context())
	if !ok {
		pr.SetXForwarded()
		return
	}
	// What a trusted proxy says is passed on, and the peer appended. What
	// anybody else says is not.
	trusted := tx.s.resolver.Trusts(tx.source.Addr())
	if trusted {
		pr.Out.Header["X-Forwarded-For"] = tx.r.Header["X-Forwarded-For"]
	}
	pr.SetXForwarded()
	pr.Out.Header["X-Forwarded-Host"] = []string{tx.r.Host}
	if tx.Encrypted() { // perhaps to a proxy, and not to us
		pr.Out.Header["X-Forwarded-Proto"] = []string{"https"}
	}
	for i, name := range forwarding {
		own := pr.In.Header[name]
		// A script may well set what the client has sent already.
		scripted := tx.out != tx.r && !sameSlice(own, tx.unscripted[i])
		if (scripted || trusted && name != "X-Forwarded-For") && len(own) > 0 {
			pr.Out.Header[name] = own
		}
	}
}

func sameSlice(a, b []string) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// upgrading shows an answer that switches protocols to the response stages.
// ReverseProxy gives the connection away without a call of WriteHeader then.
func upgrading(res *http.Response) error {
	tx, ok := TransactionFrom(res.Request.Context())
	if !ok || res.StatusCode != http.StatusSwitchingProtocols {
		return nil
	}
	tx.rw.upgrade = res
	if !tx.rw.begin(res.StatusCode) {
		return errAnswered
	}
	return nil
}

// buffers are what responses are copied through.
type buffers struct{}

const bufferSize = 32 << 10

var bufferPool = sync.Pool{New: func() any { return new([bufferSize]byte) }}

func (buffers) Get() []byte { return bufferPool.Get().(*[bufferSize]byte)[:] }

func (buffers) Put(b []byte) { bufferPool.Put((*[bufferSize]byte)(b)) }
