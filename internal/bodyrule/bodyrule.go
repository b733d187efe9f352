// Package bodyrule decides what scripts see of bodies: the service and its test
// kit follow the same rules.
package bodyrule

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// MaxBytes is the most that a service, or a script, can have buffered of a
// body.
const MaxBytes = 32 << 20

// A Request says what is buffered of a request's body: what the service says,
// until a script asks for something else.
type Request struct {
	Bytes int  // how much; 0 for nothing
	Head  bool // a longer body is shown in part; else it is refused
	asked bool // a script has
}

// Ask takes the word of a script, which leaves Head to the service.
func (r *Request) Ask(bytes int) { r.Bytes, r.asked = bytes, true }

// AskLonger takes the word of a script.
func (r *Request) AskLonger(bytes int, head bool) { r.Bytes, r.Head, r.asked = bytes, head, true }

// Applies reports whether the body is buffered and HTTP_REQ_DATA runs. A script
// that asks gets the event for requests without a body as well.
func (r Request) Applies(hasBody bool) bool { return r.Bytes > 0 && (r.asked || hasBody) }

// HasBody reports whether a server's request has a body.
func HasBody(r *http.Request) bool {
	return r.Body != nil && r.Body != http.NoBody && r.ContentLength != 0
}

// Seen is what scripts see of a request's body.
type Seen struct {
	Body []byte // as much as is buffered
	// Whole reports that this is all of it. It is false for a body whose
	// length is not declared if the buffer is full: more may come.
	Whole bool
	// Refused reports that the body is longer than allowed. Body is nil then.
	Refused bool
}

// Read reads what scripts see of a body whose length is declared, or -1. It
// does not wait for more than that.
func (r Request) Read(body io.Reader, length int64) (Seen, error) {
	if !r.Head && length > int64(r.Bytes) {
		return Seen{Refused: true}, nil
	}
	most := r.Bytes
	if !r.Head {
		most++
	}
	b, err := io.ReadAll(io.LimitReader(body, int64(most)))
	switch {
	case err != nil:
		return Seen{}, err
	case len(b) > r.Bytes:
		return Seen{Refused: true}, nil
	}
	return Seen{Body: b, Whole: !r.Head || len(b) < r.Bytes || length == int64(r.Bytes)}, nil
}

// A Response says how much is buffered of a response's body until
// HTTP_RESP_DATA is over: what the service says, until a script asks for
// something else. All of the body is sent in any case.
type Response struct {
	Bytes int // 0 for nothing
	asked bool
}

// Ask takes the word of a script.
func (r *Response) Ask(bytes int) { r.Bytes, r.asked = bytes, true }

// Buffers reports whether the beginning of the response is buffered, given
// whether it can have a body and a script handles HTTP_RESP_DATA.
func (r Response) Buffers(method string, status int, handled bool) bool {
	bodyless := method == http.MethodHead || status == http.StatusNoContent || status == http.StatusNotModified
	return r.Bytes > 0 && (r.asked || handled && !bodyless)
}

// Applies reports whether HTTP_RESP_DATA runs for what was buffered.
func (r Response) Applies(held int) bool { return r.asked || held > 0 }

// A Script is what [Check] must know of one.
type Script struct {
	Name              string // for the fault
	Request, Response bool   // it has code for HTTP_REQ_DATA, HTTP_RESP_DATA
	// It calls avi.http.set_request_body_buffer_size, and the like for
	// responses, anywhere.
	AsksRequest, AsksResponse bool
}

// Check returns a fault for each script, by its index, whose data events can
// never run: the service buffers nothing, and no script asks for it.
func Check(requestBytes, responseBytes int, scripts []Script) map[int][]error {
	request, response := requestBytes > 0, responseBytes > 0
	for _, s := range scripts {
		request, response = request || s.AsksRequest, response || s.AsksResponse
	}
	faults := map[int][]error{}
	for i, s := range scripts {
		if s.Request && !request {
			faults[i] = append(faults[i], fmt.Errorf("script %q: HTTP_REQ_DATA never runs: set requestBody.bytes, "+
				"or call avi.http.set_request_body_buffer_size in HTTP_REQ", s.Name))
		}
		if s.Response && !response {
			faults[i] = append(faults[i], fmt.Errorf("script %q: HTTP_RESP_DATA never runs: set responseBody.bytes, "+
				"or call avi.http.set_response_body_buffer_size in HTTP_RESP", s.Name))
		}
	}
	return faults
}

// ParseBytes reads a number of bytes such as "1024", "128KiB" or "1MiB".
func ParseBytes(text string) (int, error) {
	number, shift := text, 0
	for unit, s := range map[string]int{"KiB": 10, "MiB": 20} {
		if n, ok := strings.CutSuffix(text, unit); ok {
			number, shift = strings.TrimSpace(n), s
		}
	}
	n, err := strconv.ParseUint(number, 10, 40)
	if err != nil || n<<shift > MaxBytes {
		return 0, fmt.Errorf("%q is not a number of bytes up to 32MiB, such as 128KiB", text)
	}
	return int(n << shift), nil
}
