//go:build unix

package admin_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/admin"
	"github.com/limpetlb/limpet/lbpool"
)

// Serve the API at a Unix socket, and disable a server with it.
func Example() {
	pool, err := lbpool.New(lbpool.Config{Name: "web", Servers: []lbpool.ServerConfig{{Name: "web-1", Address: "192.0.2.1:80"}}})
	if err != nil {
		log.Fatal(err)
	}
	vs, err := limpet.New(limpet.Config{Name: "shop", Pools: []*lbpool.Pool{pool}})
	if err != nil {
		log.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "admin.sock")

	adm, err := admin.New(admin.Config{
		Services: func() []*limpet.VirtualService { return []*limpet.VirtualService{vs} },
	})
	if err != nil {
		log.Fatal(err)
	}
	ln, err := admin.Listen(path, 0o600)
	if err != nil {
		log.Fatal(err)
	}
	srv := admin.NewServer(adm)
	defer srv.Close()
	go srv.Serve(ln)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- adm.Run(ctx) }()

	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	defer transport.CloseIdleConnections()
	r, _ := http.NewRequest("PATCH", "http://admin/v1/services/shop/pools/web/servers/web-1", strings.NewReader(`{"state": "disabled"}`))
	r.Header.Set("Content-Type", "application/json")
	resp, err := transport.RoundTrip(r)
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	fmt.Println(resp.Status, pool.Servers()[0].State())
	stop()
	fmt.Println(<-ended)
	// Output:
	// 200 OK disabled
	// <nil>
}

// Mount the API behind a login of the program.
func ExampleWithRole() {
	vs, err := limpet.New(limpet.Config{Name: "shop"})
	if err != nil {
		log.Fatal(err)
	}
	adm, err := admin.New(admin.Config{Services: func() []*limpet.VirtualService { return []*limpet.VirtualService{vs} }})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	user := func(r *http.Request) (name string, ok bool) { return "ann", true } // of the program's session

	mux.Handle("/limpet/", http.StripPrefix("/limpet", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, ok := user(r)
		if !ok {
			http.Error(w, "log in first", http.StatusForbidden)
			return
		}
		adm.ServeHTTP(w, r.WithContext(admin.WithRole(r.Context(), admin.Operate, name)))
	})))
	fmt.Println(admin.Operate)
	// Output: operate
}
