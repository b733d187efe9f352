package limpet

import (
	"net/http"
	"strings"
)

// A guard lets only those requests go on to servers that every server reads
// as we do, after policies and scripts have had their say.
type guard struct{ next http.Handler }

// ServeHTTP answers for what must not go on.
func (g guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if tx, ok := TransactionFrom(r.Context()); ok {
		if status := refusal(r); status != 0 {
			tx.replyText(status)
			return
		}
	}
	g.next.ServeHTTP(w, r)
}

// refusal is the status that a request is refused with, or 0.
func refusal(r *http.Request) int {
	switch {
	case r.Method == http.MethodConnect:
		return http.StatusNotImplemented // a tunnel to wherever the client likes
	case strings.ContainsFunc(r.URL.Path, isControl):
		return http.StatusBadRequest // some servers end the path there
	}
	return 0
}

func isControl(c rune) bool { return c < ' ' || c == 0x7f }
