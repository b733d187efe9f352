package http1

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// TestCloseAtTheEnd closes a body just when another goroutine has read it to its end and the connection serves the next
// request already: that request, perhaps another client's, was cut off. The time between the two is made long here.
func TestCloseAtTheEnd(t *testing.T) {
	for _, ending := range []struct {
		name string
		end  func(*http.Response)
	}{
		{"read to the end", func(resp *http.Response) { io.Copy(io.Discard, resp.Body) }},
		{"closed by another", func(resp *http.Response) { resp.Body.Close() }},
	} {
		t.Run(ending.name, func(t *testing.T) {
			asked, answer := make(chan bool, 1), make(chan bool)
			s := serve(t, func(c net.Conn, r *bufio.Reader) {
				for n := 0; ; n++ {
					if _, err := readHead(r); err != nil {
						return
					}
					if n > 0 {
						asked <- true
						<-answer
					}
					io.WriteString(c, ok)
				}
			})
			rt := start(t, true, nil)
			idle, goOn := make(chan bool), make(chan bool)
			first, err := rt.RoundTrip(traced(newRequest(t, "GET", s.url, nil), &httptrace.ClientTrace{PutIdleConn: func(error) {
				close(idle)
				<-goOn
			}}))
			if err != nil {
				t.Fatal(err)
			}
			ended, closed := make(chan bool), make(chan bool)
			go func() { ending.end(first); close(ended) }()
			await(t, idle, "the connection to be idle")

			type result struct {
				body string
				err  error
			}
			second := make(chan result, 1)
			go func() {
				_, body, err := fetch(rt, newRequest(t, "POST", s.url, nil))
				second <- result{body, err}
			}()
			await(t, asked, "the second request")
			go func() { first.Body.Close(); close(closed) }()
			select {
			case r := <-second: // it must not end before it is answered
				t.Errorf("the second request: %q, %v", r.body, r.err)
				close(answer)
			case <-closed:
				close(answer)
				if r := await(t, second, "the second answer"); r.body != "ok" || r.err != nil {
					t.Errorf("the second request: %q, %v", r.body, r.err)
				}
			}
			close(goOn)
			await(t, ended, "the end")
			await(t, closed, "the closing")
			if n := s.connections(); n != 1 {
				t.Errorf("%d connections, so that the test has shown nothing", n)
			}
		})
	}
}

// TestCloseAnytime closes bodies at any moment while they are read, and looks whether all others arrive whole.
func TestCloseAnytime(t *testing.T) {
	s := serve(t, func(c net.Conn, r *bufio.Reader) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			body := strings.Repeat(req.URL.Path, 1000)
			if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: "+strconv.Itoa(len(body))+"\r\n\r\n"+body); err != nil {
				return
			}
		}
	})
	rt := start(t, true, nil)
	var wg sync.WaitGroup
	for client := range 4 {
		wg.Go(func() {
			for round := range 300 {
				path := "/" + strconv.Itoa(client) + "/" + strconv.Itoa(round)
				resp, err := rt.RoundTrip(newRequest(t, "POST", s.url+path, nil))
				if err != nil {
					t.Errorf("%s: %v", path, err)
					return
				}
				closing := round%2 == 0
				var closer sync.WaitGroup
				if closing {
					closer.Go(func() { resp.Body.Close() })
				}
				body, err := io.ReadAll(resp.Body)
				closer.Wait()
				resp.Body.Close()
				whole := strings.Repeat(path, 1000)
				if !closing && (string(body) != whole || err != nil) || err == nil && string(body) != whole {
					t.Errorf("%s: %d bytes, %v", path, len(body), err)
				}
			}
		})
	}
	wg.Wait()
}
