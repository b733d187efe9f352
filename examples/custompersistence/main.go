// Custompersistence runs the published use case on real connections: three
// servers, a virtual service with the DataScript of listing.lua and an IP
// group "Blacklist". It sends requests, shows which client went where and
// why, and then keeps serving.
//
//	go run ./examples/custompersistence        # until interrupted
//	go run ./examples/custompersistence -exit  # the account only
package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/ipgroup"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
	"github.com/limpetlb/limpet/policy"
)

//go:embed listing.lua
var listing string

// lifetime caps the listing's 300 seconds, so that the account can show an
// entry expire.
const lifetime = 2 * time.Second

func main() {
	exit := flag.Bool("exit", false, "end after the account")
	listen := flag.String("listen", "127.0.0.1:0", "`address` of the virtual service")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout, *listen, *exit); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, out io.Writer, listen string, exit bool) error {
	// The servers. Each has an address of its own if the system has so many on
	// loopback (macOS has one). Otherwise their ports distinguish them.
	var servers [3]*http.Server
	pool := lbpool.Config{Name: "my_pool", Algorithm: lbpool.RoundRobin()}
	for i := range servers {
		name := fmt.Sprintf("server-%d", i+1)
		ln, err := net.Listen("tcp", fmt.Sprintf("127.0.1.%d:0", i+1))
		if err != nil {
			ln, err = net.Listen("tcp", "127.0.0.1:0")
		}
		if err != nil {
			return err
		}
		servers[i] = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintln(w, name)
		})}
		go servers[i].Serve(ln)
		defer servers[i].Close()
		pool.Servers = append(pool.Servers, lbpool.ServerConfig{Address: ln.Addr().String(), Name: name})
	}
	myPool, err := lbpool.New(pool)
	if err != nil {
		return err
	}

	// The script, the blacklist, and the virtual service of both.
	script, err := datascript.Compile("Custom Persistence", datascript.Chunk{Source: listing})
	if err != nil {
		return err
	}
	blacklist, err := ipgroup.Parse("Blacklist", []string{"127.0.0.66", "192.0.2.0/24"}, ipgroup.Options{})
	if err != nil {
		return err
	}
	groups, err := ipgroup.NewSet(blacklist)
	if err != nil {
		return err
	}
	records := make(chan limpet.Record, 1)
	var account atomic.Bool
	account.Store(true)
	vs, err := limpet.New(limpet.Config{
		Name:     "custom-persistence",
		Pools:    []*lbpool.Pool{myPool},
		Scripts:  []limpet.Script{{Script: script}},
		Tables:   persistence.NewStore(persistence.Options{MaxLifetime: lifetime}),
		IPGroups: groups,
		Policies: limpet.Policies{NetworkSecurity: []policy.NetworkRule{{
			Name:   "deny the blacklist",
			Match:  policy.NetworkMatch{ClientIP: &policy.IPMatch{Groups: []string{"Blacklist"}}},
			Action: policy.ActionReset,
		}}},
		Logger: slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelWarn})),
		OnComplete: func(r limpet.Record) {
			if account.Load() {
				records <- r
			}
		},
	})
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	front := &http.Server{Handler: vs}
	served := make(chan error, 1)
	go func() { served <- front.Serve(vs.Listener(ln)) }()
	defer func() {
		front.Close()
		<-served
		vs.CloseIdleConnections()
	}()

	say := func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }
	a := &accountant{url: "http://" + ln.Addr().String(), records: records, out: out}
	defer a.close()
	say("Virtual service %s, pool my_pool: server-1, server-2, server-3.\n", a.url)
	say("-- Three clients, three requests each: a miss is load balanced, a hit sticks.")
	for range 3 {
		for name := range strings.FieldsSeq("anna ben clara") {
			if err := a.request(name); err != nil {
				return err
			}
		}
	}

	say("\n-- server-2 goes down: its client moves, and sticks to the new server.")
	servers[1].Close()
	for range 2 {
		if err := a.request("ben"); err != nil {
			return err
		}
	}

	say("\n-- An entry expires: nothing is heard of anna for %v.", lifetime)
	time.Sleep(lifetime + 100*time.Millisecond)
	for range 2 {
		if err := a.request("anna"); err != nil {
			return err
		}
	}

	say("\n-- A client on the blacklist is reset before it can ask, and logged.")
	if err := a.denied("127.0.0.66"); errors.Is(err, syscall.EADDRNOTAVAIL) {
		say("(Left out: this system has no address 127.0.0.66. On macOS add it by: sudo ifconfig lo0 alias 127.0.0.66)")
	} else if err != nil {
		return err
	}
	if exit {
		return nil
	}

	account.Store(false)
	say("\nServing until interrupted. Each connection is a client, so two URLs on one")
	say("command line stick together, and two commands do not:\n")
	say("  curl %[1]s %[1]s", a.url)
	say("  curl --interface 127.0.0.66 %s", a.url)
	select {
	case <-ctx.Done():
		return nil
	case err := <-served:
		served <- err
		return err
	}
}

// An accountant sends requests and shows what became of them.
type accountant struct {
	url     string
	records chan limpet.Record
	out     io.Writer
	clients map[string]*http.Client
}

// request sends one request of a client, over the connection it has.
func (a *accountant) request(name string) error {
	c, ok := a.clients[name]
	if !ok {
		c = newClient("")
		if a.clients == nil {
			a.clients = map[string]*http.Client{}
		}
		a.clients[name] = c
	}
	res, err := c.Get(a.url)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil {
		return err
	}
	r := <-a.records
	fmt.Fprintf(a.out, "%-6s %-16s -> %-9s %s\n", name, r.Client, strings.TrimSpace(string(body)), r.Outcome)
	return nil
}

// denied sends a request that must fail.
func (a *accountant) denied(from string) error {
	c := newClient(from)
	defer c.CloseIdleConnections()
	res, err := c.Get(a.url)
	if err == nil {
		res.Body.Close()
		return errors.New("a client on the blacklist was served")
	}
	if errors.Is(err, syscall.EADDRNOTAVAIL) {
		return err // it was never connected, so there is no record
	}
	r := <-a.records
	fmt.Fprintf(a.out, "%-7s %-15s -> %v, by rule %q (%v)\n", "mallory", r.Client, rootCause(err), r.NetworkRule, r.Significant[0])
	return nil
}

func (a *accountant) close() {
	for _, c := range a.clients {
		c.CloseIdleConnections()
	}
}

// newClient returns a client with a connection of its own, from the given
// address if there is one.
func newClient(from string) *http.Client {
	dialer := net.Dialer{}
	if from != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	return &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext}, Timeout: 10 * time.Second}
}

func rootCause(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}
