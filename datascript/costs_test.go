package datascript

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Triple DES of a megabyte took 39 ms, and a format of 128 KiB gave a date of
// 1.5 MiB.
func TestDearCalls(t *testing.T) {
	for _, tt := range []struct{ source, budget string }{
		{`avi.crypto.encrypt(('x'):rep(2^20 - 8), ('k'):rep(24), nil, avi.CIPHER_3DES)`, "instructions"},
		{`avi.crypto.decrypt(('x'):rep(2^20 - 8), ('k'):rep(24), nil, avi.CIPHER_3DES)`, "instructions"},
		{`avi.crypto.encrypt(('x'):rep(2^19), ('k'):rep(24), nil, avi.CIPHER_3DES)`, ""},
		{`for i = 1, 5 do avi.crypto.encrypt(('x'):rep(2^20 - 16), ('k'):rep(32)) end`, ""},
		{`os.date(('%c'):rep(65536))`, "string bytes"},
		{`os.date(('%c'):rep(4096))`, ""},
	} {
		t.Run(tt.source, func(t *testing.T) {
			_, err := runRequest(t, newEngine(t, Env{}), tt.source)
			var be *BudgetError
			if tt.budget == "" && err != nil || tt.budget != "" && (!errors.As(err, &be) || be.Budget != tt.budget) {
				t.Errorf("error %v, want %q exceeded", err, tt.budget)
			}
		})
	}
}

// A certificate could not be passed on in a header: its lines were taken for
// lines of their own.
func TestCertificateInHeader(t *testing.T) {
	x := newExchange()
	x.original.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{{Raw: make([]byte, 100)}}}
	err := runAt(t, newEngine(t, Env{}), HTTPReq, x, `
		avi.http.add_header("X-Cert", avi.ssl.client_cert(avi.CLIENT_CERT))
		avi.http.add_header("X-Folded", "a\r\n  b\n\tc")`)
	if err != nil {
		t.Fatal(err)
	}
	a := strings.Repeat("A", 64)
	if got, want := x.out.Header.Get("X-Cert"), "-----BEGIN CERTIFICATE----- "+a+" "+a+" "+"AAAAAA== -----END CERTIFICATE-----"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := x.out.Header.Get("X-Folded"); got != "a b c" {
		t.Errorf("%q", got)
	}
	for _, bad := range []string{`"a\nb"`, `"a\n"`, `"a\n\tb\nX-Forged: 1"`, `"a\r\tb"`, `"a\n\n\tb"`} {
		if err := runAt(t, newEngine(t, Env{}), HTTPReq, newExchange(), `avi.http.add_header("X", `+bad+`)`); err == nil {
			t.Errorf("%s is a value", bad)
		}
	}
}

// A script could insert 256 MiB into tables in one request, and make as many
// calls as it had instructions for.
func TestTableBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine(t, Env{Tables: slowTables{}})
		begin := time.Now()
		for _, tt := range []struct{ source, budget string }{
			{`for i = 1, 1e9 do avi.vs.table_insert("k" .. i, ("x"):rep(60000)) end`, "string bytes"},
			{`for i = 1, 1e9 do avi.vs.table_lookup("k") end`, "time of services"},
		} {
			_, err := runRequest(t, e, tt.source)
			var be *BudgetError
			if !errors.As(err, &be) || be.Budget != tt.budget {
				t.Errorf("%s: error %v, want %q exceeded", tt.source, err, tt.budget)
			}
		}
		if took := time.Since(begin); took > 2*defaultHostTime {
			t.Errorf("took %v", took)
		}
		e = newEngine(t, Env{Tables: discardTables{}})
		_, err := runRequest(t, e, `for i = 1, 1e9 do avi.vs.table_lookup("k") end`)
		var be *BudgetError
		if !errors.As(err, &be) || be.Budget != "instructions" {
			t.Errorf("error %v", err)
		}
	})
}
