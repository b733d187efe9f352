package transparency

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/limpetlb/limpet/internal/testleak"
	"github.com/limpetlb/limpet/internal/websockettest"
)

// upgradeCases are about connections that go on with another protocol.
var upgradeCases = []testCase{
	{"WebSocket", either, plainTLS, webSocket},
	{"upgrade", either, plainTLS, upgrade},
	{"early bytes", either, plainTLS, earlyBytes},
	{"early answer bytes", either, only1, earlyAnswerBytes},
	{"client half closes", either, only1, clientHalfCloses},
	{"handler half closes", either, only1, handlerHalfCloses},
	{"upgrade refused", either, plainTLS, upgradeRefused},
	{"upgraded handler dies", either, only1, upgradedHandlerDies},
	{"upgraded client dies", either, only1, upgradedClientDies},
	{"upgrade not asked for", proxy, both, upgradeNotAskedFor},
	{"other upgrade", proxy, only1, otherUpgrade},
	{"many upgrades", either, only1, manyUpgrades},
}

func webSocket(p *probe) {
	s := p.start(func(w http.ResponseWriter, r *http.Request) {
		err := websockettest.Accept(w, r, func(ws *websockettest.Conn) {
			if err := ws.Echo(); err != nil {
				p.errorf("%v", err)
			}
		})
		if err != nil {
			p.errorf("%v", err)
		}
	})
	ws, _, err := websockettest.Dial(p.ctx, s.client, s.url, "other", websockettest.Subprotocol)
	if err != nil {
		p.fatalf("%v", err)
	}
	defer func() { _ = ws.Close() }()
	if ws.Subprotocol() != websockettest.Subprotocol {
		p.errorf("subprotocol %q", ws.Subprotocol())
	}
	for _, m := range []websockettest.Message{
		websockettest.Text("hello"), websockettest.Text(""), websockettest.Text(strings.Repeat("long ", 100_000)),
		websockettest.Binary([]byte{0, 0xff, '\n'}), websockettest.Binary(new(endless).take(70_000)),
	} {
		if err := ws.Send(m); err != nil {
			p.fatalf("%v", err)
		}
		if got, err := ws.Receive(); got.Kind != m.Kind || !bytes.Equal(got.Data, m.Data) || err != nil {
			p.fatalf("%d bytes of kind %d, %v; want %d of %d", len(got.Data), got.Kind, err, len(m.Data), m.Kind)
		}
	}
	if err := ws.Finish(); err != nil {
		p.errorf("%v", err)
	}
}

const (
	upgradeRequest = "GET /upgrade HTTP/1.1\nHost: example.com\nConnection: Upgrade\nUpgrade: echo\n\n"
	switching      = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\nX-Kept: 1\r\n\r\n"
)

// upgraded takes the connection of a request over, and speaks on it. What it
// sends first goes out together with the header.
func (p *probe) upgraded(first string, speak func(io.ReadWriter, interface{ CloseWrite() error })) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "echo" || !strings.EqualFold(r.Header.Get("Connection"), "upgrade") {
			p.errorf("the handler is asked for no upgrade: %v", r.Header)
			return
		}
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			p.errorf("%v", err)
			return
		}
		defer c.Close()
		if _, err := io.WriteString(c, switching+first); err != nil {
			p.errorf("%v", err)
			return
		}
		half, _ := c.(interface{ CloseWrite() error })
		speak(struct {
			io.Reader
			io.Writer
		}{rw.Reader, c}, half)
	}
}

func (p *probe) echoing() http.HandlerFunc {
	return p.upgraded("", func(c io.ReadWriter, _ interface{ CloseWrite() error }) {
		_, _ = io.Copy(struct{ io.Writer }{c}, c)
	})
}

// upgrade asks for an upgrade, with early sent right behind the request.
func (s *site) upgrade(early ...byte) *conn {
	c := s.dial()
	c.send(upgradeRequest, early...)
	if res := c.response(nil); res.StatusCode != http.StatusSwitchingProtocols || res.Header.Get("Upgrade") != "echo" || res.Header.Get("X-Kept") != "1" {
		s.fatalf("%s %v", res.Status, res.Header)
	}
	return c
}

// After the upgrade bytes of any kind go both ways.
func upgrade(p *probe) {
	s := p.start(p.echoing())
	c := s.upgrade()
	var content []byte
	for n := 1; n <= 1<<20; n *= 4 {
		content = new(endless).take(n)
		p.clients.Go(func() { _, _ = c.Conn.Write(content) })
		if got := c.next(n); got != string(content) {
			p.fatalf("%d bytes came back changed", n)
		}
	}
}

// What the client sends right behind its request, before it knows the answer,
// belongs to the new protocol.
func earlyBytes(p *probe) {
	s := p.start(p.echoing())
	for _, n := range []int{1, 2, 100, 1000, 3000, 4096, 10_000} {
		early := bytes.Repeat([]byte("early"), n)[:n]
		c := s.upgrade(early...)
		const late = "and late"
		c.send(late)
		if got := c.next(n + len(late)); got != string(early)+late {
			p.errorf("%d bytes behind the request: %d bytes came back, want %d", n, len(got), n+len(late))
		}
		c.Close()
		if len(p.found) > 0 {
			return // each length would wait
		}
	}
}

// What the handler sends right behind its answer arrives.
func earlyAnswerBytes(p *probe) {
	first := strings.Repeat("first ", 1000)
	s := p.start(p.upgraded(first, func(io.ReadWriter, interface{ CloseWrite() error }) {}))
	c := s.upgrade()
	if got := c.end(); got != first {
		p.errorf("%d bytes came, want %d", len(got), len(first))
	}
}

// A client that has sent all still gets the answer.
func clientHalfCloses(p *probe) {
	s := p.start(p.upgraded("", func(c io.ReadWriter, _ interface{ CloseWrite() error }) {
		all, err := io.ReadAll(c)
		if err != nil {
			p.errorf("reading to the end: %v", err)
		}
		fmt.Fprintf(c, "%d bytes", len(all))
	}))
	c := s.upgrade()
	c.send(strings.Repeat("x", 100_000))
	c.closeWrite()
	if got := c.end(); got != "100000 bytes" {
		p.errorf("the client got %q", got)
	}
}

// A handler that has sent all still gets what the client sends.
func handlerHalfCloses(p *probe) {
	received := make(chan string, 1)
	s := p.start(p.upgraded("all there is", func(c io.ReadWriter, half interface{ CloseWrite() error }) {
		if err := half.CloseWrite(); err != nil {
			p.errorf("%v", err)
		}
		all, err := io.ReadAll(c)
		if err != nil {
			p.errorf("reading to the end: %v", err)
		}
		received <- string(all)
	}))
	c := s.upgrade()
	if got := c.end(); got != "all there is" {
		p.errorf("the client got %q", got)
	}
	c.send("late")
	c.closeWrite()
	if got := await(p, received, "the handler to read all"); got != "late" {
		p.errorf("the handler got %q", got)
	}
}

// Who refuses an upgrade answers as usual, and the connection goes on with
// HTTP.
func upgradeRefused(p *probe) {
	s := p.start(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Kept", "1")
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, "no")
	})
	c := s.dial()
	for range 2 {
		c.send(upgradeRequest)
		res := c.response(nil)
		body, err := io.ReadAll(res.Body)
		if res.StatusCode != http.StatusForbidden || string(body) != "no" || err != nil || res.Header.Get("X-Kept") != "1" {
			p.errorf("%s %q %v", res.Status, body, err)
		}
	}
}

// When the handler's end of an upgraded connection closes, so does the
// client's.
func upgradedHandlerDies(p *probe) {
	s := p.start(p.upgraded("", func(c io.ReadWriter, _ interface{ CloseWrite() error }) {
		_, _ = io.ReadFull(c, make([]byte, 1))
	}))
	c := s.upgrade()
	c.send("x")
	if got := c.end(); got != "" {
		p.errorf("%q came", got)
	}
}

// When the client's end closes, so does the handler's.
func upgradedClientDies(p *probe) {
	left := make(chan error, 1)
	s := p.start(p.upgraded("", func(c io.ReadWriter, _ interface{ CloseWrite() error }) {
		_, err := io.Copy(io.Discard, c)
		left <- err
	}))
	s.upgrade().Close()
	await(p, left, "the handler to see its client leave")
}

// A server that switches protocols unasked has failed.
func upgradeNotAskedFor(p *probe) {
	s := p.startRaw(func(c net.Conn) {
		if readRequest(c) {
			_, _ = io.WriteString(c, switching+"and more")
		}
	})
	if res, body := s.get("/"); res.StatusCode != http.StatusBadGateway || strings.Contains(body, "more") {
		p.errorf("%s %q", res.Status, body)
	}
}

// A server that switches to another protocol than the one asked for has failed.
func otherUpgrade(p *probe) {
	s := p.startRaw(func(c net.Conn) {
		if readRequest(c) {
			_, _ = io.WriteString(c, strings.Replace(switching, "echo", "other", 1))
		}
	})
	c := s.dial()
	c.send(upgradeRequest)
	if res := c.response(nil); res.StatusCode != http.StatusBadGateway {
		p.errorf("%s", res.Status)
	}
}

// Nothing is lost and nothing is left over.
func manyUpgrades(p *probe) {
	const parallel = 8
	s := p.start(p.echoing())
	var begun atomic.Int64
	round := func(n int64) {
		begun.Store(0)
		var clients sync.WaitGroup
		for range parallel {
			clients.Go(func() {
				for i := begun.Add(1); i <= n; i = begun.Add(1) {
					if err := s.echoOnce(fmt.Sprint("message ", i)); err != nil {
						p.errorf("upgrade %d: %v", i, err)
						return
					}
				}
			})
		}
		clients.Wait()
	}
	round(parallel)
	before := descriptors(p)
	round(int64(p.many))
	if !p.within(func() bool { return descriptors(p) <= before }) {
		p.errorf("%d descriptors, after %d before", descriptors(p), before)
	}
}

// descriptors is how many file descriptors the process has open.
func descriptors(p *probe) int {
	n, err := testleak.Descriptors()
	if err != nil {
		p.fatalf("%v", err)
	}
	return n
}

// echoOnce upgrades a connection of its own, has a message sent back, and
// closes.
func (s *site) echoOnce(message string) error {
	c, err := net.DialTimeout("tcp", s.addr, s.limit)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(s.limit)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, strings.ReplaceAll(upgradeRequest, "\n", "\r\n")); err != nil {
		return err
	}
	r := bufio.NewReader(c)
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("status %s", res.Status)
	}
	if _, err := io.WriteString(c, message); err != nil {
		return err
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	got, err := io.ReadAll(r)
	if err == nil && string(got) != message {
		err = fmt.Errorf("%q came back of %q", got, message)
	}
	return err
}
