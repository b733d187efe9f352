package http1

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/limpetlb/limpet/internal/testrace"
	"github.com/limpetlb/limpet/internal/testwait"
)

// An answer is what a broken server sends.
type answer struct {
	method  string
	text    string
	pieces  int    // in which the text is sent
	closing bool   // the server closes the connection behind it
	late    string // sent when the client has had the answer, before the next request
}

// An answerer is a server that sends one answer after the other, and answers
// requests for other things with their path.
type answerer struct {
	*server
	answer atomic.Pointer[answer] // to any request for one: some are repeated
	read   chan bool              // the client has read an answer
	late   chan struct{}          // what comes late is sent
}

func newAnswerer(t testing.TB) *answerer {
	a := &answerer{read: make(chan bool, 1), late: make(chan struct{}, 1)}
	a.server = serve(t, func(c net.Conn, r *bufio.Reader) {
		for {
			lines, err := readHead(r)
			if err != nil {
				return
			}
			_, path, _ := strings.Cut(lines[0], " ")
			path, _, _ = strings.Cut(path, " ")
			if path != "/answer" {
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: "+strconv.Itoa(len(path))+"\r\n\r\n"+path)
				continue
			}
			next := a.answer.Load()
			for rest, pieces := next.text, next.pieces; rest != ""; pieces-- {
				n := len(rest) / max(pieces, 1)
				if pieces > 1 && n == 0 {
					n = 1
				}
				if pieces <= 1 {
					n = len(rest)
				}
				if _, err := io.WriteString(c, rest[:n]); err != nil {
					break
				}
				rest = rest[n:]
			}
			if next.closing {
				c.(*net.TCPConn).CloseWrite() // a reset could overtake what was sent
				io.Copy(io.Discard, r)
				return
			}
			if next.late != "" {
				<-a.read
				io.WriteString(c, next.late)
				a.late <- struct{}{}
			}
		}
	})
	done := make(chan bool)
	go func() {
		for {
			select {
			case <-a.accepted:
			case <-done:
				return
			}
		}
	}()
	t.Cleanup(func() { close(done) })
	return a
}

// An outcome is what a client gets.
type outcome struct {
	code   int // 0: an error in place of a response
	header http.Header
	body   string
	err    error
	hints  int
}

func get(ctx context.Context, rt http.RoundTripper, method, url string) (o outcome, reused bool) {
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		Got1xxResponse: func(int, textproto.MIMEHeader) error { o.hints++; return nil },
		GotConn:        func(info httptrace.GotConnInfo) { reused = info.Reused },
	})
	r, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		panic(err)
	}
	resp, err := rt.RoundTrip(r)
	if err != nil {
		o.err = err
		return o, reused
	}
	defer resp.Body.Close()
	o.code, o.header = resp.StatusCode, resp.Header
	body, err := io.ReadAll(resp.Body)
	o.body, o.err = string(body), err
	return o, reused
}

// check sends a request that gets an answer, and another one, and compares with
// the verdict. It returns that.
func (a *answerer) check(t testing.TB, rt *Transport, given answer, n int) verdict {
	t.Helper()
	v := judge(given.method, given.text)
	if v.kind == cut || v.kind == untilEnd || v.kind == broken && v.open {
		given.closing = true // else there is no end to wait for
	}
	if given.closing || v.kind != whole || !v.keeps {
		given.late = ""
	}
	if v.behind {
		given.pieces = 1 // what comes when the next request is on its way cannot be distinguished from its answer, by anybody
	}
	ctx, cancel := context.WithTimeout(t.Context(), testwait.Limit)
	defer cancel()
	failed := func(format string, args ...any) {
		t.Helper()
		t.Errorf("%s, %d pieces, closing %v, late %q:\n%q\nis %s %s: %s", given.method, given.pieces, given.closing, given.late, given.text, v.kind, v.why, fmt.Sprintf(format, args...))
	}
	a.answer.Store(&given)
	got, _ := get(ctx, rt, given.method, a.url+"/answer")
	if ctx.Err() != nil {
		failed("no end: %v", got.err)
		t.FailNow()
	}
	switch {
	case v.kind == cut || v.kind == broken:
		if got.err == nil {
			failed("taken for whole: %+v", got)
		}
		if got.code != 0 && !v.cut {
			failed("head taken for whole: %+v", got)
		}
	case got.err != nil:
		failed("refused: %v", got.err)
	case got.code != v.code || got.body != v.body || got.hints != v.hints:
		failed("taken for %+v", got)
	}
	if errors.Is(got.err, ErrRequest) {
		failed("the request is blamed: %v", got.err)
	}
	if given.late != "" {
		a.read <- true
		<-a.late
	}
	if given.late != "" || given.closing && v.keeps {
		rt.idle.mu.Lock()
		idle := rt.idle.queue.latest
		rt.idle.mu.Unlock()
		for idle != nil && idle.alive() && ctx.Err() == nil { // the news takes a moment
		}
	}
	path := "/next/" + strconv.Itoa(n)
	next, reused := get(ctx, rt, "POST", a.url+path)
	if next.err != nil || next.code != 200 || next.body != path {
		failed("the next request gets %+v", next)
	}
	if keeps := v.keeps && !given.closing && given.late == ""; reused && !keeps {
		failed("the connection is used again")
	} else if !reused && keeps {
		failed("the connection is lost")
	}
	return v
}

// twin compares a verdict with the standard library's parser, which is that of
// an http.Transport. It returns the reason if the verdict is stricter.
func twin(t testing.TB, given answer, v verdict) string {
	t.Helper()
	r := bufio.NewReader(strings.NewReader(given.text))
	for {
		resp, err := http.ReadResponse(r, &http.Request{Method: given.method})
		var body []byte
		if err == nil && resp.StatusCode < 200 && resp.StatusCode > 99 && resp.StatusCode != http.StatusSwitchingProtocols {
			continue
		}
		if err == nil {
			body, err = io.ReadAll(resp.Body)
		}
		switch {
		case err != nil && (v.kind == whole || v.kind == untilEnd):
			t.Errorf("%q is refused by the standard library only: %v", given.text, err)
		case err == nil && (v.kind == broken || v.kind == cut):
			if _, ok := stricter[v.why]; !ok {
				t.Errorf("%q is %s (%s), and nothing for the standard library", given.text, v.kind, v.why)
			}
			return v.why
		case err == nil:
			for _, name := range []string{"Connection", "Trailer", "Content-Length"} { // told in other ways
				delete(v.header, name)
				delete(resp.Header, name)
			}
			if diff := cmp.Diff(resp.Header, v.header, cmpopts.EquateEmpty()); diff != "" || string(body) != v.body || resp.StatusCode != v.code {
				t.Errorf("%q is status %d with %q for the standard library, header - standard + own:\n%s", given.text, resp.StatusCode, body, diff)
			}
		}
		return ""
	}
}

// An answerMaker makes broken answers.
type answerMaker struct{ *rand.Rand }

func (m answerMaker) pick(from ...string) string { return from[m.IntN(len(from))] }

// mostly returns the first text, and now and then one of the others.
func (m answerMaker) mostly(usual string, others ...string) string {
	if m.IntN(10) > 0 {
		return usual
	}
	return m.pick(others...)
}

// whole makes an answer by the grammar, most of its parts good and some not.
func (m answerMaker) whole() (method, text string) {
	method = m.mostly("GET", "HEAD")
	var b strings.Builder
	for range m.IntN(8) - 5 {
		b.WriteString(m.pick(
			"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 102 \r\n\r\n",
			"HTTP/1.1 103 H\r\nContent-Length: 2\r\n\r\n", "HTTP/1.1 103 H\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 199 X\r\nContent-Length: 0\r\n\r\n",
		))
	}
	b.WriteString(m.mostly("HTTP/1.1 ", "HTTP/1.0 ", "HTTP/1.0 ", "HTTP/1.0 ", "HTTP/1.1  ", "HTTP/2.0 ", "HTTP/1.2 ", "http/1.1 ", "HTTP/1 ", "HTTP/11.1 ", "HTTP/1.1\t", "ICY "))
	b.WriteString(m.mostly("200", "404", "500", "204", "304", "205", "101", "099", "000", "+20", "-20", "20", "2000", "999", "2 0", "600"))
	b.WriteString(m.mostly(" OK", "", " ", " a b", "\tOK", " O\x00K", " \xff", " O\rK", " O\x7fK"))
	end := func() { b.WriteString(m.mostly("\r\n", "\n", "\n", "\n", "\r\r\n")) }
	end()
	body := m.pick("ok", "", "body", "0\r\n\r\n", "\r\n", "HTTP/1.1 200 OK\r\n\r\n", strings.Repeat("long", 2000))
	var fields []string
	for range m.IntN(4) {
		fields = append(fields, m.mostly(
			m.pick("A: b", "a:b", "A:  b  ", "A:", "X-Y: \xff", "Connection: close", "Connection: keep-alive", "Connection: X, close", "Date: now", "Trailer: X-T"),
			"A : b", "A\t: b", " A: b", "\tA: b", ": b", "A", "A: b\x00", "A: b\rc", "A: b\x7f", "\rA: b", "A\x00: b", "A b: c", "É: b", "Trailer: A B",
			"Upgrade: h2c", "Keep-Alive: timeout=5", "HTTP/1.1 200 OK", "Trailer: Content-Length",
		))
	}
	n := strconv.Itoa(len(body))
	chunked := m.IntN(2) == 0
	switch {
	case chunked:
		fields = append(fields, m.mostly("Transfer-Encoding: chunked",
			"Transfer-Encoding: gzip", "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: chunked, chunked", "Transfer-Encoding: identity", "Transfer-Encoding:",
			"Transfer-Encoding : chunked", "Transfer-Encoding: Chunked", "Transfer-Encoding: xchunked", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
			"Transfer-Encoding: chunked\r\nContent-Length: "+n, "Content-Length: 1\r\nTransfer-Encoding: chunked", "transfer-encoding: chunked ", "Transfer-Encoding:\tchunked",
			"Transfer-Encoding: \"chunked\"", "Transfer-Encoding\r\n: chunked", "Transfer-Encoding: chunked;a=b",
		))
	case m.IntN(4) > 0:
		fields = append(fields, m.mostly("Content-Length: "+n,
			"Content-Length : "+n, "Content-Length: +"+n, "Content-Length: -"+n, "Content-Length: "+n+","+n, "Content-Length:", "Content-Length: 0x"+n,
			"Content-Length: 00"+n, "Content-Length: "+n+" ", "Content-Length: 99999999999999999999", "Content-Length: "+n+"\r\nContent-Length: "+n,
			"Content-Length: "+n+"\r\nContent-Length: 1"+n, "Content-Length: 1\r\nContent-Length: 2\r\nContent-Length: 1", "Content-Length\t: "+n, "Content-Length: "+n+".0",
			"Content-Length: "+n+"\r\n 0", "A: b\r\n Content-Length: "+n, "Content-Length: "+n+"\r\ncontent-length: "+n, "Content-Length: 1"+n,
		))
	}
	m.Shuffle(len(fields), func(i, j int) { fields[i], fields[j] = fields[j], fields[i] })
	for _, field := range append(fields, "") {
		b.WriteString(field)
		end()
	}
	if !chunked {
		b.WriteString(body)
		return method, b.String()
	}
	for rest := body; rest != ""; {
		size := 1 + m.IntN(len(rest))
		digits := strconv.FormatInt(int64(size), 16)
		b.WriteString(m.mostly(digits+"\r\n", strings.ToUpper(digits)+"\r\n", "0"+digits+"\r\n", digits+";a=b\r\n", digits+" \r\n", digits+"\t;a\r\n", digits+"\n", "+"+digits+"\r\n",
			"0x"+digits+"\r\n", " "+digits+"\r\n", "\r\n"+digits+"\r\n", digits+"\r\r\n", "1"+digits+"\r\n", "fffffffffffffff"+digits+"\r\n", "fffffffffffffffff"+digits+"\r\n"))
		b.WriteString(rest[:size])
		b.WriteString(m.mostly("\r\n", "\n", "", "x\r\n", "\r\r"))
		rest = rest[size:]
	}
	b.WriteString(m.mostly("0\r\n", "000\r\n", "0;a\r\n", "0\n", "", "-0\r\n"))
	b.WriteString(m.mostly("\r\n", "X-T: t\r\n\r\n", "X-T: t\r\n u\r\n\r\n", "A : b\r\n\r\n", "A\r\n\r\n", "X-T: t\n\r\n\r\n", "Content-Length: 5\r\n\r\n", " A: b\r\n\r\n", "", "\n"))
	return method, b.String()
}

// mutate changes single bytes and lines, cuts off the end, or puts something
// behind.
func (m answerMaker) mutate(text string) string {
	for range m.IntN(3) {
		if text == "" {
			break
		}
		at := m.IntN(min(len(text), 300))
		octet := m.pick("\r", "\n", "\r\n", " ", "\t", "\x00", ":", ",", "0", "9", "a", "\x7f", "\xff", ";", "-", "+")
		switch m.IntN(9) {
		case 0:
			text = text[:at] + octet + text[at:]
		case 1:
			text = text[:at] + octet + text[at+1:]
		case 2:
			text = text[:at] + text[at+1:]
		case 3:
			text = text[:at]
		case 4, 5:
			text += m.pick("x", "\r\n", "\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", "HTTP/1.1 100 Continue\r\n\r\n", "0\r\n\r\n", strings.Repeat("x", 5000))
		default:
			lines := strings.SplitAfter(text, "\n")
			i, j := m.IntN(len(lines)), m.IntN(len(lines))
			switch m.IntN(3) {
			case 0:
				lines[i], lines[j] = lines[j], lines[i]
			case 1:
				lines = slices.Insert(lines, i, lines[j])
			case 2:
				lines = slices.Delete(lines, i, i+1)
			}
			text = strings.Join(lines, "")
		}
	}
	return text
}

// isUpgrade reports whether an answer gives the connection away, which is
// another matter.
func isUpgrade(v verdict) bool {
	return v.code == http.StatusSwitchingProtocols
}

// TestBrokenServers gets answers of all kinds, by the grammar and not, cut off
// at each byte, with more behind them, at once and late. A client gets the
// whole answer of its server or an error, and never waits for what will not
// come; the next request gets its own answer. Where answers are refused that
// the standard library takes, the reason is one of a list.
func TestBrokenServers(t *testing.T) {
	a := newAnswerer(t)
	base := settings()
	base.MaxIdleConnsPerHost = 1
	rt := start(t, true, base).(*Transport)
	m := answerMaker{rand.New(rand.NewPCG(14, 2))}
	kinds, reasons, n := map[kind]int{}, map[string]int{}, 0
	check := func(given answer) {
		v := judge(given.method, given.text)
		if isUpgrade(v) {
			return
		}
		n++
		kinds[a.check(t, rt, given, n).kind]++
		if why := twin(t, given, v); why != "" {
			reasons[why]++
		}
	}
	few := 1
	if testing.Short() || testrace.Enabled {
		few = 8
	}
	for _, text := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nA: b\r\n\r\nok",
		"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n2;a\r\nok\r\n1\r\n!\r\n0\r\nX-T: t\r\n\r\n",
		"HTTP/1.1 204 No Content\r\nDate: now\r\n\r\n",
		"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok",
	} {
		for i := 0; i <= len(text); i += few {
			for _, behind := range []string{"", "\r\n", "x", "\r\n\r\n", "\x00", ok} {
				check(answer{method: "GET", text: text[:i] + behind, pieces: 1 + i%3, closing: i%2 == 0})
			}
		}
	}
	for range 10_000 / few {
		method, text := m.whole()
		given := answer{method: method, text: m.mutate(text), pieces: 1 + m.IntN(3), closing: m.IntN(4) == 0}
		given.late = m.pick("", "", "x", "\r\n", ok, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
		check(given)
		if t.Failed() && n%50 == 0 {
			break
		}
	}
	t.Logf("%d answers: %v; refused by us alone: %v", n, kinds, reasons)
	if n < 10_000/few || kinds[whole] < 1000/few || kinds[untilEnd] < 300/few || kinds[cut] < 500/few || kinds[broken] < 1000/few {
		t.Errorf("only %d answers: %v", n, kinds)
	}
	for why := range stricter {
		if reasons[why] == 0 && few == 1 {
			t.Errorf("no answer is refused by us alone for its %s", why)
		}
	}
}

// FuzzBrokenServers looks for an answer of which a client gets another one than
// it is, for ever waits for more, or after which the next request does not get
// its own.
func FuzzBrokenServers(f *testing.F) {
	for _, r := range responses {
		f.Add(r.method == "HEAD", r.text, uint8(1)) // each stands for a branch of the framing
	}
	a := newAnswerer(f)
	rt := start(f, true, nil).(*Transport)
	n := 0
	f.Fuzz(func(t *testing.T, head bool, text string, pieces uint8) {
		given := answer{method: "GET", text: text, pieces: int(pieces % 8), late: "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"}
		if head {
			given.method = "HEAD"
		}
		if len(text) > 3000 || isUpgrade(judge(given.method, text)) { // lines may be too long, which is another matter
			return
		}
		n++
		twin(t, given, a.check(t, rt, given, n))
	})
}
