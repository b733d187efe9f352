// Package websockettest opens and accepts WebSockets in tests of what stands
// between the two ends.
package websockettest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"

	"golang.org/x/net/websocket"
)

// Subprotocol is the one that [Accept] speaks, if the client offers it.
const Subprotocol = "echo"

// Message is one frame.
type Message struct {
	Kind byte   // of the frame: 1 for text, 2 for bytes
	Data []byte // the payload
}

// Text returns a message of text.
func Text(s string) Message { return Message{websocket.TextFrame, []byte(s)} }

// Binary returns a message of bytes.
func Binary(b []byte) Message { return Message{websocket.BinaryFrame, b} }

// codec sends and receives messages with their kind.
var codec = websocket.Codec{
	Marshal: func(v any) ([]byte, byte, error) {
		m := v.(Message)
		return m.Data, m.Kind, nil
	},
	Unmarshal: func(data []byte, kind byte, v any) error {
		*v.(*Message) = Message{kind, data}
		return nil
	},
}

// Conn is one end of a WebSocket. One goroutine may send while another
// receives.
type Conn struct {
	ws     *websocket.Conn
	tunnel *tunnel // of a client
}

// Subprotocol returns what both ends have agreed on, or "". Only clients know.
func (c *Conn) Subprotocol() string { return c.tunnel.response.Header.Get("Sec-WebSocket-Protocol") }

// Send sends a message in one frame.
func (c *Conn) Send(m Message) error { return codec.Send(c.ws, m) }

// Receive waits for the next message and answers pings meanwhile. The error is
// io.EOF when the other end closes.
func (c *Conn) Receive() (Message, error) {
	var m Message
	err := codec.Receive(c.ws, &m)
	return m, err
}

// Echo sends every message back until the other end closes, which is no error,
// and then says goodbye.
func (c *Conn) Echo() error {
	for {
		m, err := c.Receive()
		if errors.Is(err, io.EOF) {
			_ = c.ws.Close() // the other end may be gone
			return nil
		}
		if err != nil {
			return err
		}
		if err := c.Send(m); err != nil {
			return err
		}
	}
}

// goodbye is the frame that ends a WebSocket normally, as a server sends it.
const goodbye = "\x88\x02\x03\xe8"

// Finish sends the frame that ends a WebSocket of a client, and reports an
// error if that of the server is not the last that comes.
func (c *Conn) Finish() error {
	if err := c.Send(Message{websocket.CloseFrame, []byte(goodbye[2:])}); err != nil {
		return err
	}
	switch m, err := c.Receive(); {
	case err == nil:
		return fmt.Errorf("%d bytes of kind %d in place of the end", len(m.Data), m.Kind)
	case !errors.Is(err, io.EOF):
		return err
	}
	if got := string(c.tunnel.last); got != goodbye {
		return fmt.Errorf("the last bytes are %q, want %q", got, goodbye)
	}
	return c.Close()
}

// Close closes the connection at once, without a goodbye.
func (c *Conn) Close() error {
	c.tunnel.detach()
	return c.tunnel.body.Close()
}

// Accept answers a request, which asks for a WebSocket, takes its connection
// over, and closes it when serve returns. Like most libraries, it writes the
// header of the response before it takes the connection.
func Accept(w http.ResponseWriter, r *http.Request, serve func(*Conn)) error {
	a := &acceptor{ResponseWriter: w}
	websocket.Server{
		Handshake: func(c *websocket.Config, _ *http.Request) error {
			offered := c.Protocol
			if c.Protocol = nil; slices.Contains(offered, Subprotocol) {
				c.Protocol = []string{Subprotocol}
			}
			return nil
		},
		Handler: func(ws *websocket.Conn) { serve(&Conn{ws: ws}) },
	}.ServeHTTP(a, r)
	return a.err
}

// An acceptor is the connection of a request before and after it is taken over:
// what is written first must be a response.
type acceptor struct {
	http.ResponseWriter
	net.Conn
	r   *bufio.Reader
	err error // why there is no connection
}

// Hijack gives away a connection that takes the real one when the handshake is
// written.
func (a *acceptor) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return a, bufio.NewReadWriter(bufio.NewReader(a), bufio.NewWriter(a)), nil
}

func (a *acceptor) Write(b []byte) (int, error) {
	if a.Conn != nil {
		return a.Conn.Write(b)
	}
	res, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(b)), nil)
	if err != nil {
		a.err = err
		return 0, err
	}
	_ = res.Body.Close()
	maps.Copy(a.Header(), res.Header)
	a.WriteHeader(res.StatusCode)
	if res.StatusCode != http.StatusSwitchingProtocols {
		a.err = fmt.Errorf("no WebSocket is asked for: %s", res.Status)
		return len(b), nil
	}
	c, rw, err := http.NewResponseController(a.ResponseWriter).Hijack()
	if err != nil {
		a.err = err
		return 0, err
	}
	a.Conn, a.r = c, rw.Reader
	return len(b), nil
}

func (a *acceptor) Read(b []byte) (int, error) { return a.r.Read(b) }

func (a *acceptor) Close() error {
	if a.Conn == nil {
		return nil
	}
	return a.Conn.Close()
}

// Dial has a client ask for a WebSocket at an http or https URL and offer the
// subprotocols. The connection ends with ctx, not with the client's Timeout.
// The response is there with an error as well, if one has come; its body is
// closed or the WebSocket's.
func Dial(ctx context.Context, client *http.Client, address string, subprotocols ...string) (*Conn, *http.Response, error) {
	config, err := websocket.NewConfig(address, address)
	if err != nil {
		return nil, nil, err
	}
	config.Protocol = subprotocols
	untimed := *client
	untimed.Timeout = 0 // it would go on after the handshake
	t := &tunnel{ctx: ctx, client: &untimed, url: config.Location, detach: func() bool { return false }}
	ws, err := websocket.NewClient(config, t)
	if err != nil {
		if t.response != nil {
			_ = t.response.Body.Close()
		}
		return nil, t.response, err
	}
	return &Conn{ws, t}, t.response, nil
}

// A tunnel is a connection through an http.Client: what is written first must
// be a request, which the client sends, and its response is read first.
type tunnel struct {
	ctx      context.Context
	client   *http.Client
	url      *url.URL
	response *http.Response
	head     bytes.Buffer
	body     io.ReadWriteCloser // after the handshake
	last     []byte             // bytes read
	detach   func() bool
}

func (t *tunnel) Write(b []byte) (int, error) {
	if t.body != nil {
		return t.body.Write(b)
	}
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b)))
	if err != nil {
		return 0, err
	}
	r.URL, r.RequestURI = t.url, ""
	if t.response, err = t.client.Do(r.WithContext(t.ctx)); err != nil { //nolint:bodyclose // it is the connection
		return 0, err
	}
	body, ok := t.response.Body.(io.ReadWriteCloser)
	if !ok || t.response.StatusCode != http.StatusSwitchingProtocols {
		return 0, fmt.Errorf("the answer is %s", t.response.Status)
	}
	t.body, t.detach = body, context.AfterFunc(t.ctx, func() { _ = body.Close() })
	fmt.Fprintf(&t.head, "HTTP/1.1 %s\r\n", t.response.Status)
	_ = t.response.Header.Write(&t.head)
	t.head.WriteString("\r\n")
	return len(b), nil
}

func (t *tunnel) Read(b []byte) (int, error) {
	if t.head.Len() > 0 {
		return t.head.Read(b)
	}
	n, err := t.body.Read(b)
	t.last = append(t.last, b[:n]...)
	t.last = t.last[max(0, len(t.last)-len(goodbye)):]
	return n, err
}

func (t *tunnel) Close() error { return t.body.Close() }
