package redisstore

import (
	"bytes"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A reply is what a server, or a hostile one, may send.
type reply struct {
	name, text string
	messages   uint64
	ok         bool
}

// replies are made by the tests that need them: one has 40 MiB, which each
// process of the package would have otherwise.
var replies = sync.OnceValue(func() []reply {
	return []reply{
		{"simple strings", "+OK\r\n-ERR no\r\n:12\r\n,1.5\r\n#t\r\n_\r\n(123\r\n", 7, true},
		{"bulk strings", "$3\r\na\nb\r\n$0\r\n\r\n$-1\r\n=5\r\ntxt:a\r\n!3\r\nERR\r\n", 5, true},
		{"arrays", "*2\r\n*0\r\n*2\r\n$1\r\na\r\n:1\r\n+OK\r\n", 2, true},
		{"map and set", "%1\r\n+k\r\n*1\r\n_\r\n~1\r\n:1\r\n", 2, true},
		{"push", ">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n+OK\r\n", 1, true},
		{"push of nothing", ">2\r\n$10\r\ninvalidate\r\n_\r\n", 0, true},
		{"other push", ">2\r\n$9\r\nsubscribe\r\n_\r\n", 0, false},
		{"short push", ">1\r\n$10\r\ninvalidate\r\n", 0, false},
		{"push within", "*1\r\n>2\r\n", 1, false},
		{"huge string", "$536870912\r\n", 1, false},
		{"negative string", "$-5\r\n", 1, false},
		{"string without end", "$?\r\n", 1, false},
		{"huge array", "*99999999\r\n", 1, false},
		{"negative map", "%-1\r\n", 1, false},
		{"not an integer", ":x\r\n", 1, false},
		{"not a boolean", "#true\r\n", 1, false},
		{"not null", "_x\r\n", 1, false},
		{"no type", "hello\r\n", 1, false},
		{"empty line", "\r\n", 0, false},
		{"line without return", "+OK\n", 0, false},
		{"long line", "+" + strings.Repeat("x", maxLineBytes), 0, false},
		{"deep", strings.Repeat("*1\r\n", 9), 1, false},
		{"large altogether", "*40\r\n" + strings.Repeat("$1048576\r\n"+strings.Repeat("x", 1<<20)+"\r\n", 40), 1, false},
	}
})

func TestScanner(t *testing.T) {
	for _, tt := range replies() {
		t.Run(tt.name, func(t *testing.T) {
			whole := scanner{answers: true}
			if err := whole.scan([]byte(tt.text)); (err == nil) != tt.ok || whole.messages != tt.messages {
				t.Errorf("%v, %d messages", err, whole.messages)
			}
			if len(tt.text) > 1<<20 {
				return
			}
			bytewise := scanner{answers: true}
			var err error
			for i := 0; i < len(tt.text) && err == nil; i++ {
				err = bytewise.scan([]byte(tt.text[i : i+1]))
			}
			if (err == nil) != tt.ok || bytewise.messages != tt.messages {
				t.Errorf("byte by byte: %v, %d messages", err, bytewise.messages)
			}
			if tt.ok && (len(whole.open) > 0 || whole.bulk > 0 || len(whole.line) > 0) {
				t.Errorf("not at an end: %+v", whole)
			}
		})
	}
}

// FuzzStoreReply reads the same bytes at once and in pieces; nothing may panic
// or keep what it reads.
func FuzzStoreReply(f *testing.F) {
	for _, tt := range replies() {
		if len(tt.text) < 1<<10 {
			f.Add([]byte(tt.text), uint8(3)) // see the names
		}
	}
	f.Add([]byte("*3\r\n$1\r\n7\r\n:1\r\n$5\r\nvalue\r\n"), uint8(1)) // an answer of the script
	f.Fuzz(func(t *testing.T, text []byte, size uint8) {
		whole, pieces := scanner{answers: true}, scanner{answers: true}
		err := whole.scan(text)
		var inPieces error
		for rest := text; len(rest) > 0 && inPieces == nil; {
			n := min(len(rest), int(size)+1)
			inPieces = pieces.scan(rest[:n])
			rest = rest[n:]
		}
		if (err == nil) != (inPieces == nil) || err == nil && whole.messages != pieces.messages {
			t.Errorf("%v and %v, %d and %d messages", err, inPieces, whole.messages, pieces.messages)
		}
		if len(whole.line) > maxLineBytes || len(whole.open) > maxDepth {
			t.Errorf("keeps %d bytes, %d levels", len(whole.line), len(whole.open))
		}
	})
}

// TestGuard has a server that sends answers without a call.
func TestGuard(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	g := newGuard(client)
	go func() {
		buf := make([]byte, 100)
		server.Read(buf)
		server.Write([]byte("+PONG\r\n+PONG\r\n"))
	}()
	if _, err := g.Write([]byte("*1\r\n$4\r\nPING\r\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Read(make([]byte, 100)); !errors.Is(err, errMismatch) {
		t.Errorf("two answers to one question: %v", err)
	}
	if _, err := server.Write([]byte("x")); err == nil {
		t.Error("the connection is still open")
	}
}

// TestHostileServer connects to something that is not a Redis, or a hostile
// one.
func TestHostileServer(t *testing.T) {
	t.Parallel()
	for _, tt := range replies() {
		if tt.ok || len(tt.text) > 1<<20 {
			continue
		}
		t.Run(tt.name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			defer func() { ln.Close(); <-done }()
			go func() {
				defer close(done)
				for {
					c, err := ln.Accept()
					if err != nil {
						return
					}
					c.SetDeadline(time.Now().Add(ampleTimeout))
					c.Read(make([]byte, 4096))
					c.Write([]byte(tt.text))
					c.Close()
				}
			}()
			s, err := New(Config{Addresses: []string{ln.Addr().String()}})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if ok, err := s.Insert(t.Context(), "", "k", "v", time.Hour); !ok || err != nil {
				t.Errorf("%t, %v", ok, err)
			}
			if err := s.Ping(t.Context()); !errors.Is(err, ErrUnavailable) {
				t.Errorf("Ping: %v", err)
			}
		})
	}
}

func TestNames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOfN(rapid.RuneFrom([]rune("a{}/:1e\x00é")), 0, 6, -1)
		prefix := rapid.SampledFrom([]string{"limpet", "a", "a:1", "1:"}).Draw(t, "prefix")
		table, key := text.Draw(t, "table"), text.Draw(t, "key")
		full := name(prefix, table, entryKind, key)
		gotTable, gotKey, ok := parseName(prefix, entryKind, full)
		if !ok || gotTable != table || gotKey != key {
			t.Errorf("%q: %q, %q, %t", full, gotTable, gotKey, ok)
		}
		if _, _, ok := parseName(prefix, entryKind, name(prefix, table, indexKind, "")); ok {
			t.Error("the name of an index passes for that of an entry")
		}
		if tag := full[1 : 1+bytes.IndexByte([]byte(full[1:]), '}')]; tag == "" || !strings.HasPrefix(name(prefix, table, countsKind, "")[1:], tag+"}") {
			t.Errorf("%q has no tag in common with the counts", full)
		}
	})
	for _, odd := range []string{"", "{", "{p", "{p/", "{p/1", "{p/x:t}ek", "{p/9:t}ek", "{p/1:t", "{p/1:t}", "{p/1:tek", "{q/1:t}ek", "p/1:t}ek", "{p1:t}ek"} {
		if table, key, ok := parseName("p", entryKind, odd); ok {
			t.Errorf("%q: %q, %q", odd, table, key)
		}
	}
}
