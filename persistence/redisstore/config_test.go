package redisstore

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/limpetlb/limpet/internal/redistest"
	"github.com/limpetlb/limpet/persistence"
)

func TestConfigFaults(t *testing.T) {
	for _, tt := range []struct {
		name   string
		config Config
		want   []string
	}{
		{"empty", Config{}, []string{"addresses: missing"}},
		{"all at once", Config{
			Addresses: []string{"10.0.0.1", "10.0.0.1:0", "10.0.0.1:http", "ok:6379", "redis://u:hunter2@h:0"}, Username: "u", Database: -1, Prefix: "a{b}",
			WhenDown: 7, TablesWhenDown: map[string]WhenDown{"t": 9},
		}, []string{
			`addresses[0]: "10.0.0.1": `, `addresses[1]: "10.0.0.1:0"`, `addresses[2]: "10.0.0.1:http"`, "addresses[4]: not a host", `password: missing for the user "u"`,
			"database: -1", `prefix: "a{b}"`, "whenDown: 7", `tablesWhenDown["t"]: 9`,
		}},
		{"long prefix", Config{Addresses: []string{"h:1"}, Prefix: strings.Repeat("p", 65)}, []string{"prefix: "}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := New(tt.config)
			if !errors.As(err, new(*FieldError)) {
				t.Fatalf("got %v", err)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error has the password: %v", err)
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(tt.want) {
				t.Errorf("%d faults, want %d: %v", len(lines), len(tt.want), err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is missing in %v", want, err)
				}
			}
		})
	}
}

func TestSecretIsNeverPrinted(t *testing.T) {
	const secret = "hunter2"
	server := redistest.Start(t, "--requirepass", "another")
	var log lockedBuffer
	c := Config{Addresses: []string{server.Addr}, Username: "u", Password: secret, WhenDown: FailClosed}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&log, format+format+format, c, &c, c.Password)
	}
	slog.New(slog.NewJSONHandler(&log, nil)).Info("text", "config", c, "password", c.Password)
	slog.New(slog.NewTextHandler(&log, nil)).Info("text", "config", c, "password", c.Password)
	if err := json.NewEncoder(&log).Encode(c.Password); err != nil {
		t.Error(err)
	}
	fmt.Fprint(&log, c.Password.String(), c.Password.GoString())
	c.Logger = slog.New(slog.NewTextHandler(&log, nil))
	c.Timeout = ampleTimeout
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	err = s.Ping(t.Context())
	if err == nil || !strings.Contains(err.Error(), "WRONGPASS") {
		t.Errorf("Ping: %v", err)
	}
	fmt.Fprintln(&log, err)
	for _, form := range []string{secret, fmt.Sprintf("%x", secret), fmt.Sprintf("%X", secret), "104 117"} {
		if strings.Contains(log.String(), form) {
			t.Errorf("%q is printed:\n%s", form, log.String())
		}
	}
}

// TestUser is the recipe of the guide: a user who may do what a store does with
// the keys of its prefix, and nothing else.
func TestUser(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	ctx := t.Context()
	reply := server.Command(append([]string{"ACL", "SETUSER", "limpet", "on", ">secret", "~{shop/*"}, strings.Fields(userRules)...)...)
	if reply != "+OK\r\n" {
		t.Fatal(reply)
	}
	s := open(t, server, Config{Username: "limpet", Password: "secret", Prefix: "shop"})
	if _, ok, err := s.Increment(ctx, "", "n", 1, time.Hour); !ok || err != nil {
		t.Error(ok, err)
	}
	if ok, err := s.CompareAndSwap(ctx, "", "n", "1", "2"); !ok || err != nil {
		t.Error(ok, err)
	}
	if actual, left, err := s.Claim(ctx, "", "n", "3", "1", time.Hour); actual != "2" || left <= 0 || err != nil {
		t.Error(actual, left, err)
	}
	if value, _, ok, err := s.Lookup(ctx, "", "n", time.Hour); value != "2" || !ok || err != nil {
		t.Error(value, ok, err)
	}
	if ok, err := s.PutIdle(ctx, "", "n", "3", time.Hour, time.Hour); !ok || err != nil {
		t.Error(ok, err)
	}
	if counts, err := s.CountByValue(ctx, ""); counts["3"] != 1 || err != nil {
		t.Error(counts, err)
	}
	s.Put(ctx, "", "m", "3", time.Hour)
	server.Command("DEL", name("shop", "", countsKind, "")) // the store finds out
	if ok, err := s.Put(ctx, "", "n", "4", time.Hour); !ok || err != nil {
		t.Error(ok, err)
	}
	if err := s.Range(ctx, "", func(string, persistence.Entry[string]) bool { return true }); !errors.Is(err, errIncomplete) {
		t.Error(err)
	}
	if err := s.Remove(ctx, "", "n"); err != nil {
		t.Error(err)
	}
	elsewhere, err := New(Config{Addresses: []string{server.Addr}, Username: "limpet", Password: "secret", Prefix: "bank", Timeout: ampleTimeout})
	if err != nil {
		t.Fatal(err)
	}
	defer elsewhere.Close()
	if err := elsewhere.Ping(ctx); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "NOPERM") && !strings.Contains(err.Error(), "ermission") {
		t.Errorf("another prefix: %v", err)
	}
}

// userRules are those of docs/guides/several-instances.md.
const userRules = "+hello +ping +client|setname +client|tracking +cluster|slots +evalsha +eval +time " +
	"+scan +hstrlen +hmget +hget +hset +hdel +hincrby +hscan +exists +set +del +unlink +pexpireat +pttl +zadd +zrem +zscore +zcard +zrange +zrangebyscore +zscan"

func TestUserRulesAreInTheGuide(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "guides", "several-instances.md"))
	if err != nil {
		t.Fatal(err)
	}
	guide := strings.Join(strings.Fields(strings.ReplaceAll(string(text), "\\\n", " ")), " ")
	if !strings.Contains(guide, userRules) {
		t.Error("docs/guides/several-instances.md has other rules for the user")
	}
}

// startTLS starts a server with a certificate, and returns its address for TLS
// and the authority.
func startTLS(t *testing.T) (server *redistest.Server, address string, roots *x509.CertPool) {
	t.Helper()
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "redis"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile := filepath.Join(dir, "cert"), filepath.Join(dir, "key")
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	port := nowhere(t)
	_, number, _ := net.SplitHostPort(port)
	server = redistest.Start(t, "--tls-port", number, "--tls-cert-file", certFile, "--tls-key-file", keyFile, "--tls-auth-clients", "no")
	roots = x509.NewCertPool()
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots.AddCert(cert)
	return server, port, roots
}

func TestTLS(t *testing.T) {
	t.Parallel()
	server, port, roots := startTLS(t)
	s := open(t, server, Config{Addresses: []string{port}, TLS: &tls.Config{RootCAs: roots}})
	ctx := context.Background()
	if ok, err := s.Put(ctx, "", "k", "v", time.Hour); !ok || err != nil {
		t.Error(ok, err)
	}
	if value, _, _, err := s.Lookup(ctx, "", "k", 0); value != "v" || err != nil {
		t.Error(value, err)
	}
	unverified, err := New(Config{Addresses: []string{port}, TLS: &tls.Config{RootCAs: x509.NewCertPool()}, Timeout: ampleTimeout})
	if err != nil {
		t.Fatal(err)
	}
	defer unverified.Close()
	if err := unverified.Ping(ctx); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("an unknown authority: %v", err)
	}
}

func TestWhenDownText(t *testing.T) {
	for want, w := range map[string]WhenDown{"fail open": FailOpen, "fail closed": FailClosed} {
		text, err := w.MarshalText()
		if w.String() != want || string(text) != want || err != nil {
			t.Errorf("%q and %q, %v, want %q", w, text, err, want)
		}
		got := FailClosed - w
		if err := got.UnmarshalText([]byte(strings.ToUpper(strings.ReplaceAll(want, " ", "_")))); err != nil || got != w {
			t.Errorf("%q is read as %v, %v", want, got, err)
		}
	}
	w := FailClosed
	if err := w.UnmarshalText([]byte("retry")); err == nil || !strings.Contains(err.Error(), "fail open, fail closed") || w != FailClosed {
		t.Errorf("the error for another text, after which the value is %v: %v", w, err)
	}
	if text, err := WhenDown(9).MarshalText(); err == nil {
		t.Errorf("9 is written as %q", text)
	}
}
