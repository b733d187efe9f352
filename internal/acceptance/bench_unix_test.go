//go:build unix

package acceptance_test

import (
	"bufio"
	"bytes"
	"net/http/httputil"
	"net/url"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/lbpool"
)

// BenchmarkRatio compares what a request costs a proxy: a reverse proxy of the
// standard library, tuned as well as that goes, and a virtual service without
// and with the published listing. Client and server are the simplest that
// there can be; what they use up without a proxy is subtracted. Processor time
// counts, and the contenders take turns, so that what else the machine does
// falls on nobody or on all of them.
func BenchmarkRatio(b *testing.B) {
	addr := echoServer(b)
	base := lbpool.NewBase()
	b.Cleanup(base.CloseIdleConnections)
	target := &url.URL{Scheme: "http", Host: addr}
	plain := startSite(b, http1, listen(b, ""), &httputil.ReverseProxy{
		Rewrite:    func(pr *httputil.ProxyRequest) { pr.SetURL(target); pr.SetXForwarded() },
		Transport:  base,
		BufferPool: &chunks{},
	})
	pools := []*lbpool.Pool{poolOf(b, lbpool.ServerConfig{Address: addr})}
	_, bare := serve(b, http1, limpet.Config{Pools: pools})
	_, listing := serve(b, http1, limpet.Config{
		Pools:   pools,
		Scripts: []limpet.Script{compile(b, "Custom Persistence", customPersistence)},
	})

	contenders := [...]struct {
		name    string
		clients [clients]func()
		used    time.Duration
	}{
		{name: "direct", clients: requesters(b, addr)},
		{name: "plain", clients: requesters(b, plain.Addr)},
		{name: "bare", clients: requesters(b, bare.Addr)},
		{name: "listing", clients: requesters(b, listing.Addr)},
	}
	const turn = 25
	for b.Loop() {
		for i := range contenders {
			start := processorTime(b)
			var wg sync.WaitGroup
			for _, request := range contenders[i].clients {
				wg.Go(func() {
					for range turn {
						request()
					}
				})
			}
			wg.Wait()
			contenders[i].used += processorTime(b) - start
		}
	}
	own := func(i int) float64 { return float64(contenders[i].used - contenders[0].used) }
	for i, c := range contenders[1:] {
		b.ReportMetric(own(i+1)/float64(b.N*turn*clients), "cpu-ns/"+c.name)
		b.ReportMetric(own(i+1)/own(1), c.name+"/plain")
	}
}

const clients = 16

func requesters(b *testing.B, addr string) (list [clients]func()) {
	for i := range list {
		list[i] = exchangeWith(b, addr)
	}
	return list
}

// processorTime is what this process has used.
func processorTime(b *testing.B) time.Duration {
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		b.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

var simpleResponse = []byte("HTTP/1.1 200 OK\r\nDate: Sun, 22 Nov 2026 12:00:00 GMT\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n\r\n" +
	string(bytes.Repeat([]byte("x"), 1024)))

// echoServer answers requests without a body, one after the other.
func echoServer(b *testing.B) (addr string) {
	ln := listen(b, "127.0.1.1:0")
	b.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r := bufio.NewReader(c)
				for {
					line, err := r.ReadSlice('\n')
					if err == nil && len(line) == len("\r\n") {
						_, err = c.Write(simpleResponse)
					}
					if err != nil {
						return
					}
				}
			}()
		}
	}()
	return ln.Addr().String()
}
