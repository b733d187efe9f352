package integration

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
)

// A namedService answers with its name.
type namedService struct {
	service
	name  string
	calls atomic.Int64
}

func (s *namedService) UnaryCall(ctx context.Context, r *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	s.calls.Add(1)
	return &pb.SimpleResponse{ServerId: s.name, Payload: r.GetPayload()}, nil
}

// FullDuplexCall sends messages back, and the name in the header.
func (s *namedService) FullDuplexCall(both grpc.BidiStreamingServer[pb.StreamingOutputCallRequest, pb.StreamingOutputCallResponse]) error {
	if err := both.SetHeader(metadata.Pairs("x-server", s.name)); err != nil {
		return err
	}
	return s.service.FullDuplexCall(both)
}

// startGRPC starts a gRPC server, at an address of its own for each host.
func startGRPC(t *testing.T, name, host string) (*grpc.Server, *namedService, string) {
	t.Helper()
	s := &namedService{name: name, service: service{ended: make(chan error, 1000)}}
	srv := grpc.NewServer(grpc.MaxRecvMsgSize(64 << 20))
	pb.RegisterTestServiceServer(srv, s)
	ln, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	t.Cleanup(func() {
		srv.Stop()
		<-served
	})
	return srv, s, ln.Addr().String()
}

// callGRPC serves cfg to clients that speak HTTP/2 in cleartext, as a program
// does, and returns a function that connects one.
func callGRPC(t *testing.T, cfg limpet.Config) (vs *limpet.VirtualService, connect func() pb.TestServiceClient) {
	t.Helper()
	vs, err := limpet.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := limpet.NewServer(vs)
	srv.Protocols = new(http.Protocols)
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(vs.Listener(ln)) }()
	t.Cleanup(func() {
		_ = srv.Close()
		<-served
		vs.CloseIdleConnections()
	})
	return vs, func() pb.TestServiceClient {
		conn, err := grpc.NewClient("passthrough:///"+ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20), grpc.MaxCallSendMsgSize(64<<20)), grpc.WithDisableRetry())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return pb.NewTestServiceClient(conn)
	}
}

func grpcPool(t *testing.T, cfg lbpool.Config, addrs ...string) *lbpool.Pool {
	t.Helper()
	cfg.Name, cfg.Protocol = "grpc", lbpool.ProtocolH2C
	for _, addr := range addrs {
		cfg.Servers = append(cfg.Servers, lbpool.ServerConfig{Address: addr})
	}
	p, err := lbpool.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Each client of gRPC stays with its server, whichever tells it: a header that
// its metadata carries, a cookie that it returns as metadata, or a script with
// a table.
func TestStickyGRPC(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), testwait.Limit)
	defer cancel()
	_, a, addrA := startGRPC(t, "a", "127.0.1.1")
	_, b, addrB := startGRPC(t, "b", "127.0.1.2")
	script, err := datascript.Compile("sticky", datascript.Chunk{Source: `-- HTTP_REQ
key = avi.http.get_header("x-tenant")
server = avi.vs.table_lookup(key)
if server then avi.pool.select("grpc", server) end
-- HTTP_RESPONSE
if not server then avi.vs.table_insert(key, avi.pool.server_ip()) end
`})
	if err != nil {
		t.Fatal(err)
	}
	header, err := persistence.NewCustomHeader(persistence.CustomHeaderConfig{Name: "x-server", Servers: map[string]string{"first": addrA, "second": addrB}})
	if err != nil {
		t.Fatal(err)
	}
	cookie, err := persistence.NewHTTPCookie(persistence.HTTPCookieConfig{Name: "stick"})
	if err != nil {
		t.Fatal(err)
	}
	call := func(t *testing.T, client pb.TestServiceClient, pairs ...string) (server, set string) {
		t.Helper()
		var header metadata.MD
		res, err := client.UnaryCall(metadata.AppendToOutgoingContext(ctx, pairs...), new(pb.SimpleRequest), grpc.Header(&header))
		if err != nil {
			t.Fatal(err)
		}
		if got := header.Get("set-cookie"); len(got) > 0 {
			set, _, _ = strings.Cut(got[0], ";")
		}
		return res.GetServerId(), set
	}
	t.Run("header", func(t *testing.T) {
		_, connect := callGRPC(t, limpet.Config{Pools: []*lbpool.Pool{grpcPool(t, lbpool.Config{}, addrA, addrB)}, Persistence: header})
		client := connect()
		for range 20 {
			for value, want := range map[string]string{"first": "a", "second": "b"} {
				if got, _ := call(t, client, "x-server", value); got != want {
					t.Errorf("%s: server %s", value, got)
				}
			}
		}
	})
	t.Run("cookie", func(t *testing.T) {
		_, connect := callGRPC(t, limpet.Config{
			Pools: []*lbpool.Pool{grpcPool(t, lbpool.Config{Algorithm: lbpool.RoundRobin()}, addrA, addrB)}, Persistence: cookie,
		})
		client := connect()
		before := map[string]bool{}
		for range 10 {
			server, set := call(t, client)
			if set == "" {
				t.Fatal("no cookie")
			}
			before[server] = true
			for range 5 {
				if got, _ := call(t, client, "cookie", set); got != server {
					t.Errorf("server %s, then %s", server, got)
				}
			}
		}
		if len(before) != 2 {
			t.Errorf("all clients at %v", before)
		}
	})
	t.Run("script", func(t *testing.T) {
		_, connect := callGRPC(t, limpet.Config{
			Pools:   []*lbpool.Pool{grpcPool(t, lbpool.Config{Algorithm: lbpool.RoundRobin()}, addrA, addrB)},
			Scripts: []limpet.Script{{Script: script}},
		})
		client := connect()
		for i := range 10 {
			tenant := fmt.Sprint("tenant", i)
			server, _ := call(t, client, "x-tenant", tenant)
			for range 5 {
				if got, _ := call(t, client, "x-tenant", tenant); got != server {
					t.Errorf("%s: server %s, then %s", tenant, server, got)
				}
			}
		}
	})
	if a.calls.Load() == 0 || b.calls.Load() == 0 {
		t.Errorf("%d and %d calls", a.calls.Load(), b.calls.Load())
	}
}

// Servers of gRPC go away and come back, one after the other, while clients
// call: no call fails, and nothing is done twice.
func TestGRPCServersGoAway(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), testwait.Limit)
	defer cancel()
	const clients, restarts = 8, 6
	type place struct {
		srv  *grpc.Server
		addr string
	}
	var calls atomic.Int64
	start := func(addr string) place {
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		srv := grpc.NewServer()
		pb.RegisterTestServiceServer(srv, &countedService{calls: &calls})
		served := make(chan error, 1)
		go func() { served <- srv.Serve(ln) }()
		t.Cleanup(func() {
			srv.Stop()
			<-served
		})
		return place{srv, ln.Addr().String()}
	}
	places := []place{start("127.0.0.1:0"), start("127.0.0.1:0")}
	pool := grpcPool(t, lbpool.Config{Passive: lbpool.Passive{Disabled: true}}, places[0].addr, places[1].addr)
	_, connect := callGRPC(t, limpet.Config{Pools: []*lbpool.Pool{pool}})
	var done, failed atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range clients {
		client := connect()
		wg.Go(func() {
			body := bytes.Repeat([]byte("x"), 1000)
			for {
				select {
				case <-stop:
					return
				default:
				}
				done.Add(1)
				if _, err := client.UnaryCall(ctx, &pb.SimpleRequest{Payload: &pb.Payload{Body: body}}); err != nil {
					failed.Add(1)
					t.Error(err)
				}
			}
		})
	}
	for i := range restarts {
		at := &places[i%2]
		for before := done.Load(); done.Load() < before+100 && ctx.Err() == nil; {
			_, _ = connect().UnaryCall(ctx, new(pb.SimpleRequest))
			done.Add(1)
		}
		at.srv.GracefulStop()
		*at = start(at.addr)
	}
	close(stop)
	wg.Wait()
	if failed.Load() > 0 || calls.Load() != done.Load() {
		t.Errorf("%d of %d calls failed, %d came to a server", failed.Load(), done.Load(), calls.Load())
	}
}

type countedService struct {
	pb.UnimplementedTestServiceServer
	calls *atomic.Int64
}

func (s *countedService) UnaryCall(_ context.Context, r *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	s.calls.Add(1)
	return &pb.SimpleResponse{Payload: r.GetPayload()}, nil
}

// Messages may be large in both directions, rules hold, and a pool of HTTP/1.1
// stands beside one of gRPC.
func TestGRPCBesideHTTP1(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), testwait.Limit)
	defer cancel()
	_, _, addr := startGRPC(t, "a", "127.0.1.1")
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto) })}
	served := make(chan error, 1)
	go func() { served <- web.Serve(plain) }()
	t.Cleanup(func() {
		_ = web.Close()
		<-served
	})
	pages, err := lbpool.New(lbpool.Config{Name: "web", Servers: []lbpool.ServerConfig{{Address: plain.Addr().String()}}})
	if err != nil {
		t.Fatal(err)
	}
	script, err := datascript.Compile("route", datascript.Chunk{Source: `-- HTTP_REQ
if avi.http.get_header("content-type") == "application/grpc" then avi.pool.select("grpc") end
if avi.http.get_header("x-deny") then avi.http.close_conn() end
`})
	if err != nil {
		t.Fatal(err)
	}
	vs, connect := callGRPC(t, limpet.Config{Pools: []*lbpool.Pool{pages, grpcPool(t, lbpool.Config{}, addr)}, Scripts: []limpet.Script{{Script: script}}})
	client := connect()
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	res, err := client.UnaryCall(ctx, &pb.SimpleRequest{Payload: &pb.Payload{Body: big}})
	if err != nil || !bytes.Equal(res.GetPayload().GetBody(), big) {
		t.Errorf("16 MiB: %d bytes came back, %v", len(res.GetPayload().GetBody()), err)
	}
	if _, err := client.UnaryCall(metadata.AppendToOutgoingContext(ctx, "x-deny", "1"), new(pb.SimpleRequest)); err == nil {
		t.Error("the script has not denied a call")
	}
	if _, err := client.EmptyCall(ctx, new(pb.Empty)); status.Code(err) != codes.Unimplemented {
		t.Error(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	front := limpet.NewServer(vs)
	go func() { served <- front.Serve(ln) }()
	t.Cleanup(func() {
		_ = front.Close()
		<-served
	})
	got, err := http.Get("http://" + ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	if text, _ := io.ReadAll(got.Body); string(text) != "HTTP/1.1" {
		t.Errorf("the page: %q", text)
	}
}
