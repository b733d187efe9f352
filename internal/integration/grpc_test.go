package integration

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/lbpool"
)

// service is a gRPC service; ended gets the error of the context of each call
// that waits for its end.
type service struct {
	pb.UnimplementedTestServiceServer
	ended chan error
}

func (s *service) UnaryCall(ctx context.Context, r *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	in, _ := metadata.FromIncomingContext(ctx)
	_ = grpc.SetHeader(ctx, metadata.Pairs("x-header", strings.Join(in.Get("x-sent"), ",")))
	_ = grpc.SetTrailer(ctx, metadata.Pairs("x-trailer", "1", "x-trailer-bin", "\x00\xff"))
	if st := r.GetResponseStatus(); st.GetCode() != 0 {
		return nil, status.Error(codes.Code(st.GetCode()), st.GetMessage())
	}
	if r.GetResponseSize() < 0 {
		<-ctx.Done()
		s.ended <- ctx.Err()
		return nil, ctx.Err()
	}
	return &pb.SimpleResponse{Payload: r.GetPayload()}, nil
}

func (s *service) StreamingOutputCall(r *pb.StreamingOutputCallRequest, out grpc.ServerStreamingServer[pb.StreamingOutputCallResponse]) error {
	for _, p := range r.GetResponseParameters() {
		if err := out.Send(&pb.StreamingOutputCallResponse{Payload: &pb.Payload{Body: make([]byte, p.GetSize())}}); err != nil {
			return err
		}
	}
	return status.Error(codes.Code(r.GetResponseStatus().GetCode()), r.GetResponseStatus().GetMessage())
}

func (s *service) StreamingInputCall(in grpc.ClientStreamingServer[pb.StreamingInputCallRequest, pb.StreamingInputCallResponse]) error {
	for sum := int32(0); ; {
		r, err := in.Recv()
		if errors.Is(err, io.EOF) {
			return in.SendAndClose(&pb.StreamingInputCallResponse{AggregatedPayloadSize: sum})
		}
		if err != nil {
			return err
		}
		sum += int32(len(r.GetPayload().GetBody()))
	}
}

func (s *service) FullDuplexCall(both grpc.BidiStreamingServer[pb.StreamingOutputCallRequest, pb.StreamingOutputCallResponse]) error {
	for {
		r, err := both.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			s.ended <- err
			return err
		}
		if err := both.Send(&pb.StreamingOutputCallResponse{Payload: r.GetPayload()}); err != nil {
			return err
		}
	}
}

// TestGRPC makes calls of all kinds, to a gRPC server that is wrapped, and
// through the proxy to one that is a server of a pool.
func TestGRPC(t *testing.T) {
	for _, way := range []string{"wrapped", "proxied by h2c", "proxied by TLS"} {
		for _, secure := range []bool{true, false} {
			name := way + "/h2c"
			if secure {
				name = way + "/TLS"
			}
			t.Run(name, func(t *testing.T) { testGRPC(t, way, secure) })
		}
	}
}

// serveHTTP2 serves h until the test ends, and returns where, and the client's
// configuration of TLS.
func serveHTTP2(t *testing.T, secure bool, h http.Handler) (addr string, client *tls.Config) {
	srv := httptest.NewUnstartedServer(h)
	srv.Config.Protocols = new(http.Protocols)
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	if !secure {
		srv.Config.Protocols.SetUnencryptedHTTP2(true)
		srv.Start()
		return srv.Listener.Addr().String(), nil
	}
	srv.EnableHTTP2 = true
	srv.Config.Protocols.SetHTTP2(true)
	srv.StartTLS()
	client = srv.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	client.ServerName = "example.com"
	return srv.Listener.Addr().String(), client
}

func testGRPC(t *testing.T, way string, secure bool) {
	ctx, cancel := context.WithTimeout(t.Context(), testwait.Limit)
	defer cancel()
	svc := &service{ended: make(chan error, 1)}
	srv := grpc.NewServer()
	pb.RegisterTestServiceServer(srv, svc)
	t.Cleanup(srv.Stop)

	script, err := datascript.Compile("script", datascript.Chunk{Source: `-- HTTP_REQ
avi.http.add_header("x-sent", "script")
-- HTTP_RESP
avi.http.add_header("x-response-event", "1")
`})
	if err != nil {
		t.Fatal(err)
	}
	cfg := limpet.Config{Scripts: []limpet.Script{{Script: script}}}
	if way != "wrapped" {
		base := lbpool.NewBase()
		pool := lbpool.Config{Name: "grpc"}
		var addr string
		if way == "proxied by TLS" {
			addr, base.TLSClientConfig = serveHTTP2(t, true, srv)
			pool.Scheme, pool.Protocol = "https", lbpool.ProtocolH2
		} else {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			addr = ln.Addr().String()
			served := make(chan error, 1)
			go func() { served <- srv.Serve(ln) }()
			t.Cleanup(func() {
				srv.Stop()
				<-served
			})
			pool.Protocol = lbpool.ProtocolH2C
		}
		pool.Servers = []lbpool.ServerConfig{{Address: addr}}
		p, err := lbpool.New(pool)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Pools, cfg.Transport = []*lbpool.Pool{p}, lbpool.NewHTTP1(base)
	}
	vs, err := limpet.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(vs.CloseIdleConnections)
	handler := http.Handler(vs)
	if way == "wrapped" {
		handler = vs.Wrap(srv)
	}
	addr, clientTLS := serveHTTP2(t, secure, handler)
	creds := insecure.NewCredentials()
	if secure {
		creds = credentials.NewTLS(clientTLS)
	}
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	client := pb.NewTestServiceClient(conn)

	t.Run("unary", func(t *testing.T) {
		for _, n := range []int{0, 1, 1 << 10, 1 << 20} {
			body := bytes.Repeat([]byte("x"), n)
			var header, trailer metadata.MD
			res, err := client.UnaryCall(metadata.AppendToOutgoingContext(ctx, "x-sent", "client"),
				&pb.SimpleRequest{Payload: &pb.Payload{Body: body}}, grpc.Header(&header), grpc.Trailer(&trailer))
			if err != nil || !bytes.Equal(res.GetPayload().GetBody(), body) {
				t.Fatalf("%d bytes: %v", n, err)
			}
			if got := header.Get("x-header"); len(got) != 1 || got[0] != "client,script" {
				t.Errorf("header: %v", header)
			}
			if header.Get("x-response-event") == nil {
				t.Errorf("no response event: %v", header)
			}
			if got := trailer.Get("x-trailer-bin"); len(got) != 1 || got[0] != "\x00\xff" {
				t.Errorf("trailer: %v", trailer)
			}
		}
	})
	t.Run("error", func(t *testing.T) { // header and trailer in one
		for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
			var trailer metadata.MD
			_, err := client.UnaryCall(ctx, &pb.SimpleRequest{ResponseStatus: &pb.EchoStatus{Code: int32(code), Message: "grüße, 100 %"}}, grpc.Trailer(&trailer))
			if st := status.Convert(err); st.Code() != code || st.Message() != "grüße, 100 %" || trailer.Get("x-trailer") == nil {
				t.Errorf("%v: %v, trailer %v", code, err, trailer)
			}
		}
		if _, err := client.UnimplementedCall(ctx, &pb.Empty{}); status.Code(err) != codes.Unimplemented {
			t.Error(err)
		}
	})
	t.Run("server stream", func(t *testing.T) {
		r := &pb.StreamingOutputCallRequest{ResponseStatus: &pb.EchoStatus{Code: int32(codes.DataLoss), Message: "late"}}
		for i := range 50 {
			r.ResponseParameters = append(r.ResponseParameters, &pb.ResponseParameters{Size: int32(i * 1000)})
		}
		stream, err := client.StreamingOutputCall(ctx, r)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 50 {
			if res, err := stream.Recv(); err != nil || len(res.GetPayload().GetBody()) != i*1000 {
				t.Fatalf("message %d: %v", i, err)
			}
		}
		if _, err := stream.Recv(); status.Code(err) != codes.DataLoss {
			t.Error(err)
		}
	})
	t.Run("client stream", func(t *testing.T) {
		stream, err := client.StreamingInputCall(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for range 50 {
			if err := stream.Send(&pb.StreamingInputCallRequest{Payload: &pb.Payload{Body: make([]byte, 10_000)}}); err != nil {
				t.Fatal(err)
			}
		}
		if res, err := stream.CloseAndRecv(); err != nil || res.GetAggregatedPayloadSize() != 500_000 {
			t.Errorf("%v, %v", res, err)
		}
	})
	t.Run("both", func(t *testing.T) {
		stream, err := client.FullDuplexCall(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 50 {
			body := bytes.Repeat([]byte{byte(i)}, i*100)
			if err := stream.Send(&pb.StreamingOutputCallRequest{Payload: &pb.Payload{Body: body}}); err != nil {
				t.Fatal(err)
			}
			if res, err := stream.Recv(); err != nil || !bytes.Equal(res.GetPayload().GetBody(), body) {
				t.Fatalf("message %d: %v", i, err)
			}
		}
		if err := stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	})
	t.Run("deadline", func(t *testing.T) {
		// The server knows the deadline, too, and may be the first to give up,
		// which the client learns as an answer with status 502.
		var err error
		for range 5 {
			ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
			_, err = client.UnaryCall(ctx, &pb.SimpleRequest{ResponseSize: -1})
			cancel()
			svc.wantEnd(t)
			if status.Code(err) != codes.Unavailable {
				break
			}
		}
		if status.Code(err) != codes.DeadlineExceeded {
			t.Error(err)
		}
	})
	t.Run("cancel", func(t *testing.T) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := client.FullDuplexCall(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(&pb.StreamingOutputCallRequest{}); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
		cancel()
		if _, err := stream.Recv(); status.Code(err) != codes.Canceled {
			t.Error(err)
		}
		svc.wantEnd(t)
	})
}

// wantEnd waits until the service has seen its caller go.
func (s *service) wantEnd(t *testing.T) {
	t.Helper()
	timer := time.NewTimer(testwait.Limit)
	defer timer.Stop()
	select {
	case err := <-s.ended:
		if err == nil {
			t.Error("the service saw no error")
		}
	case <-timer.C:
		t.Error("the service has not seen its caller go")
	}
}
