//go:build unix

package lbpool

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"testing"
)

// What no checker of this package can ask, a function can: a program, or
// another protocol.
func TestExternalCheck(t *testing.T) {
	t.Parallel()
	program := CheckerFunc(func(ctx context.Context, server netip.AddrPort) error {
		if out, err := exec.CommandContext(ctx, "sh", "-c", `test "$1" = 10.0.0.1:80 || { echo "no $1"; exit 1; }`, "check", server.String()).CombinedOutput(); err != nil {
			return &CheckError{Reason: "", Detail: string(out), Err: err}
		}
		return nil
	})
	datagram := CheckerFunc(func(ctx context.Context, server netip.AddrPort) error {
		c, err := new(net.Dialer).DialContext(ctx, "udp", server.String())
		if err != nil {
			return err
		}
		defer c.Close()
		if deadline, ok := ctx.Deadline(); ok {
			_ = c.SetDeadline(deadline)
		}
		if _, err := c.Write([]byte("PING")); err != nil {
			return err
		}
		answer := make([]byte, 10)
		n, err := c.Read(answer)
		if err == nil && string(answer[:n]) != "PONG" {
			err = fmt.Errorf("answered %q", answer[:n])
		}
		return err
	})
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	go func() {
		b := make([]byte, 10)
		for {
			_, from, err := udp.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = udp.WriteTo([]byte("PONG"), from)
		}
	}()
	live := udp.LocalAddr().(*net.UDPAddr).AddrPort()
	for _, test := range []struct {
		name    string
		check   CheckerFunc
		servers []ServerConfig
	}{
		{"program", program, []ServerConfig{{Address: "10.0.0.1"}, {Address: "10.0.0.2"}}},
		{"datagram", datagram, []ServerConfig{{Address: live.String()}, {Address: refusing(t).String()}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			events := make(chan Event, 2)
			p := mustPool(t, Config{
				Servers: test.servers, HealthMonitors: []HealthMonitor{{Name: test.name, Checker: test.check}},
				OnEvent: func(e Event) { events <- e },
			})
			defer running(t, p)()
			for range test.servers {
				if e := <-events; e.From != Unchecked || (e.Change.State == Up) != (e.Server == p.Servers()[0]) {
					t.Errorf("event %+v", e)
				}
			}
			if got := states(p); got != "up down" {
				t.Errorf("states %s", got)
			}
		})
	}
}
