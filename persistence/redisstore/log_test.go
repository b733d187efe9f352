package redisstore

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limpetlb/limpet/internal/redistest"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/persistence"
)

// A journal is a logger's output.
type journal struct{ lockedBuffer }

func (j *journal) logger() *slog.Logger { return slog.New(slog.NewJSONHandler(j, nil)) }

type journalLine struct {
	Time       time.Time
	Level, Msg string
	Prefix     string
	Error      string
	Entries    int
	Times      int
}

func (j *journal) lines(t *testing.T) (lines []journalLine) {
	t.Helper()
	for text := range strings.Lines(j.String()) {
		var line journalLine
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	return lines
}

// Each instance stuck its clients alone, for ever: no message said that the
// store was never reached.
func TestUnreachableIsLogged(t *testing.T) {
	t.Parallel()
	const secret = "hunter2-long-password"
	server := redistest.Start(t, "--requirepass", "another", "--databases", "4")
	restricted := func(rules string) *redistest.Server {
		s := redistest.Start(t)
		if reply := s.Command(append([]string{"ACL", "SETUSER", "limpet", "on", ">" + secret}, strings.Fields(rules)...)...); reply != "+OK\r\n" {
			t.Fatal(reply)
		}
		return s
	}
	open := redistest.Start(t, "--databases", "4")
	_, secure, _ := startTLS(t)
	for _, tt := range []struct {
		name   string
		config Config
		want   string
	}{
		{"nobody listens", Config{Addresses: []string{nowhere(t)}}, "connection refused"},
		{"unknown name", Config{Addresses: []string{"redis.invalid:6379"}}, "redis.invalid"},
		{"wrong password", Config{Addresses: []string{server.Addr}, Username: "limpet", Password: secret}, "WRONGPASS"},
		{"no password", Config{Addresses: []string{server.Addr}}, "NOAUTH"},
		{"a user without rights", Config{Addresses: []string{restricted("+hello").Addr}, Username: "limpet", Password: secret}, "NOPERM"},
		{"a user of other keys", Config{Addresses: []string{restricted("~{bank/* " + userRules).Addr}, Username: "limpet", Password: secret}, "ermission"},
		{"wrong database", Config{Addresses: []string{open.Addr}, Database: 9}, "DB index is out of range"},
		{"TLS to a server without", Config{Addresses: []string{open.Addr}, TLS: &tls.Config{InsecureSkipVerify: true}}, "TLS handshake: "},
		{"TLS with another authority", Config{Addresses: []string{secure}, TLS: &tls.Config{RootCAs: x509.NewCertPool()}}, "TLS handshake: tls: failed to verify"},
		{"no TLS to a server with", Config{Addresses: []string{secure}}, "expects TLS"},
		{"a server that is too old", Config{Addresses: []string{oldServer(t, "-ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `default`, `hunter2-long-pass")}, Password: secret}, "too old"},
		{"a proxy that repeats", Config{Addresses: []string{oldServer(t, "-ERR refused: HELLO 3 AUTH default "+secret+" SETNAME limpet")}, Password: secret}, "REDACTED"},
		{"silence", Config{Addresses: []string{oldServer(t, "")}}, "no answer in time"},
		{"something else", Config{Addresses: []string{oldServer(t, "HTTP/1.1 400 Bad Request")}}, "RESP3"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var j journal
			tt.config.Logger = j.logger()
			tt.config.Prefix = "shop"
			tt.config.Timeout = ampleTimeout
			if tt.name == "silence" {
				tt.config.Timeout = 200 * time.Millisecond
			}
			s, err := New(tt.config)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			ctx := t.Context()
			if ok, err := s.Insert(ctx, "", "k", "v", time.Hour); !ok || err != nil {
				t.Errorf("Insert: %t, %v", ok, err)
			}
			testwait.Until(t, "a message", func() bool { return j.String() != "" })
			<-time.After(500 * time.Millisecond) // some attempts more
			lines := j.lines(t)
			if len(lines) != 1 || lines[0].Level != "WARN" || lines[0].Msg != "persistence store unreachable" || lines[0].Prefix != "shop" {
				t.Fatalf("%+v", lines)
			}
			text := lines[0].Error
			if !strings.Contains(text, tt.want) {
				t.Errorf("%q is missing in %q", tt.want, text)
			}
			err = s.Ping(ctx)
			for _, text := range []string{j.String(), fmt.Sprint(err), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", err)} {
				if strings.Contains(text, "hunter2") {
					t.Errorf("the password is shown: %s", text)
				}
			}
			if !strings.Contains(fmt.Sprint(err), tt.want) {
				t.Errorf("Ping says another cause: %v", err)
			}
		})
	}
}

// oldServer answers every command with one line.
func oldServer(t *testing.T, line string) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				r := bufio.NewReader(c)
				for {
					if _, err := respMessage(r, nil); err != nil {
						return
					}
					if line != "" {
						io.WriteString(c, line+"\r\n")
					}
				}
			})
		}
	})
	return ln.Addr().String()
}

// A lasting problem is logged again after a minute, after ten, and then every
// hour; its end is logged once.
func TestReminder(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var r reminder
	var got []time.Duration
	for at := time.Duration(0); at < 4*time.Hour; at += time.Second {
		if r.due(start.Add(at)) {
			got = append(got, at)
		}
	}
	if want := []time.Duration{0, time.Minute, 10 * time.Minute, 70 * time.Minute, 130 * time.Minute, 190 * time.Minute}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// Nobody listens for an hour and a half.
func TestUnreachableIsLoggedRarely(t *testing.T) {
	address := nowhere(t)
	synctest.Test(t, func(t *testing.T) {
		var j journal
		s, err := New(Config{Addresses: []string{address}, Logger: j.logger()})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if err := s.Ping(context.Background()); err == nil {
			t.Error("there is a server")
		}
		time.Sleep(11 * time.Minute)
		s.Close()
		time.Sleep(2 * time.Second) // see TestMain
		var at []time.Duration
		for _, line := range j.lines(t) {
			if line.Msg != "persistence store unreachable" || line.Level != "WARN" || line.Error == "" {
				t.Errorf("%+v", line)
			}
			at = append(at, line.Time.Sub(start).Truncate(5*time.Second))
		}
		if want := []time.Duration{0, time.Minute, 10 * time.Minute}; !slices.Equal(at, want) {
			t.Errorf("%v, want %v", at, want)
		}
	})
}

func TestLostAndFoundAreLogged(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	server := redistest.Start(t)
	server.Kill()
	var j journal
	s, err := New(Config{Addresses: []string{server.Addr}, Logger: j.logger(), Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.Ping(ctx)
	server.Restart()
	testwait.Until(t, "recovery", func() bool { return s.Ping(ctx) == nil && strings.Contains(j.String(), "found") })
	server.Kill()
	s.Lookup(ctx, "", "k", 0)
	testwait.Until(t, "message", func() bool { return strings.Contains(j.String(), "store lost") })
	server.Restart()
	testwait.Until(t, "recovery", func() bool { return s.Ping(ctx) == nil && strings.Count(j.String(), "found") == 2 })
	var got []string
	for _, line := range j.lines(t) {
		got = append(got, line.Level+" "+line.Msg)
		if line.Level == "WARN" && line.Error == "" {
			t.Errorf("no cause: %+v", line)
		}
	}
	want := []string{
		"WARN persistence store unreachable", "INFO persistence store found", "WARN persistence store lost", "INFO persistence store found",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// A user who may look up but not store opened the circuit with each call and
// closed it a moment later: ten warnings a second.
func TestLossesAreNotLoggedOneByOne(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	server := redistest.Start(t)
	server.Command(append([]string{"ACL", "SETUSER", "limpet", "on", ">secret", "~*"}, strings.Fields(strings.ReplaceAll(userRules, " +zadd", ""))...)...)
	var j journal
	s, err := New(Config{Addresses: []string{server.Addr}, Username: "limpet", Password: "secret", Logger: j.logger(), Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
		if ok, err := s.Insert(ctx, "", "k", "v", time.Hour); !ok || err != nil {
			t.Errorf("%t, %v", ok, err)
		}
		<-time.After(5 * time.Millisecond)
	}
	s.Close() // which logs the messages that wait
	warnings := strings.Count(j.String(), "persistence store")
	t.Logf("%d messages, lost %d times", warnings, s.Stats().Opened)
	if !strings.Contains(j.String(), "can't run this command") || warnings > 4 {
		t.Errorf("%d messages:\n%s", warnings, j.String())
	}
}

// A server without memory refuses new clients' entries, which showed in a
// counter only.
func TestNoMemoryIsLogged(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	server := redistest.Start(t)
	var j journal
	s := open(t, server, Config{Logger: j.logger()})
	server.Command("CONFIG", "SET", "maxmemory", "1mb")
	for range 10 {
		s.Put(ctx, "", "k", "v", time.Hour)
	}
	if n := strings.Count(j.String(), "persistence store without memory"); n != 1 {
		t.Errorf("%d messages:\n%s", n, j.String())
	}
}

// What memory had stored and the server does not take was dropped in silence.
func TestDroppedEntriesAreLogged(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	server := redistest.Start(t)
	server.Kill()
	var j journal
	s, err := New(Config{
		Addresses: []string{server.Addr}, Logger: j.logger(), Timeout: 5 * time.Second,
		Options: persistence.Options{MaxEntries: 10, WhenFull: persistence.RefuseNew},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, key := range []string{"a", "b", "c"} {
		s.Insert(ctx, "", key, "v", time.Hour)
	}
	server.Restart()
	server.Command("SET", name(DefaultPrefix, "", entryKind, "b"), "foreign")
	testwait.Until(t, "message", func() bool { return strings.Contains(j.String(), "dropped") })
	for _, line := range j.lines(t) {
		if line.Msg == "persistence entries dropped" && (line.Entries != 1 || line.Level != "WARN") {
			t.Errorf("%+v", line)
		}
	}
	if st := s.Stats(); st.Returned != 2 || st.Dropped != 1 {
		t.Errorf("%+v", st)
	}
}

// What a server repeats of a call holds keys, which may be sessions.
func TestExplained(t *testing.T) {
	c := Config{Password: "pass"}
	for in, want := range map[string]string{
		"ERR unknown command 'EVALSHA', with args beginning with: 'abc' '3' '{shop/0:}esession'": "the server is too old or does not speak RESP3: Redis 7.0 or Valkey 7.2 is needed (ERR unknown command 'EVALSHA')",
		"AUTH default pass is wrong":          "AUTH default REDACTED is wrong",
		"ERR DB index is out of range":        "ERR DB index is out of range",
		"ERR Error compiling script (x): '#'": "the server is too old or does not speak RESP3: Redis 7.0 or Valkey 7.2 is needed (ERR Error compiling script (x): '#')",
	} {
		if got := c.explained(fmt.Errorf("%s", in)).Error(); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if err := c.explained(nil); err != nil {
		t.Error(err)
	}
	if err := (&Config{}).explained(errTimeout); err != errTimeout {
		t.Error(err)
	}
	if bytes.Contains([]byte(c.explained(io.EOF).Error()), []byte("pass")) {
		t.Error("shown")
	}
}
