package datascripttest

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet/datascript"
)

func TestTransactionZero(t *testing.T) {
	var tx Transaction
	if got, want := tx.Client().String(), "192.0.2.1:1234"; got != want {
		t.Errorf("Client() = %v, want %v", got, want)
	}
	if got, want := tx.Local().String(), "198.51.100.1:80"; got != want {
		t.Errorf("Local() = %v, want %v", got, want)
	}
	if r := tx.Request(); r != tx.Original() || r.Host != "www.example.com" || r.URL.Path != "/" || r.Method != "GET" {
		t.Errorf("Request() = %v %v %v", r.Method, r.Host, r.URL)
	}
	if _, _, ok := tx.Response(); ok {
		t.Error("there is a response")
	}
	if pool, addr := tx.Server(); pool != "" || addr.IsValid() {
		t.Errorf("Server() = %q, %v", pool, addr)
	}
	if vars := tx.Vars(); vars == nil || vars != tx.Vars() {
		t.Error("Vars() does not stay the same")
	}
}

func TestTransactionAddresses(t *testing.T) {
	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = "[::ffff:10.0.0.1]:99"
	tx := Transaction{In: r, LocalAddr: netip.MustParseAddrPort("10.0.0.9:443")}
	if got, want := tx.Client().String(), "10.0.0.1:99"; got != want {
		t.Errorf("Client() = %v, want %v: that of the request, unmapped", got, want)
	}
	tx.ClientAddr = netip.MustParseAddrPort("[fe80::1%eth0]:5")
	if got, want := tx.Client().String(), "[fe80::1]:5"; got != want {
		t.Errorf("Client() = %v, want %v: the field, without its zone", got, want)
	}
	if got, want := tx.Local().String(), "10.0.0.9:443"; got != want {
		t.Errorf("Local() = %v, want %v", got, want)
	}
}

func TestTransactionEditRequest(t *testing.T) {
	in := httptest.NewRequest("GET", "/a", nil)
	in.Header.Set("X", "in")
	tx := Transaction{In: in}
	out := tx.EditRequest()
	out.Header.Set("X", "out")
	out.URL.Path = "/b"
	if in.Header.Get("X") != "in" || in.URL.Path != "/a" {
		t.Errorf("the request as received was changed: %v %v", in.URL, in.Header)
	}
	if tx.EditRequest() != out || tx.Request() != out || tx.Out != out || tx.Original() != in {
		t.Error("a second copy was made, or the copy is not the request to send")
	}
	bare := Transaction{In: &http.Request{URL: in.URL}}
	if bare.EditRequest().Header == nil {
		t.Error("no header to edit")
	}
}

func TestTransactionDecisions(t *testing.T) {
	addr := netip.MustParseAddrPort("10.0.0.1:80")
	tx := Transaction{Status: 200}
	if status, h, ok := tx.Response(); status != 200 || h == nil || !ok {
		t.Errorf("Response() = %v, %v, %v", status, h, ok)
	}
	tx.SelectEntry("a", addr, datascript.Entry{Key: "key", Value: "entry"})
	tx.SelectPool("b", netip.AddrPort{})
	if diff := cmp.Diff(&Selection{Pool: "b"}, tx.Selected, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Errorf("Selected (-want +got):\n%s", diff)
	}
	if pool, addr := tx.Server(); pool != "b" || addr.IsValid() {
		t.Errorf("Server() = %q, %v, want the pool alone", pool, addr)
	}
	tx.Reply(403, nil, []byte("first"))
	tx.Reply(200, nil, []byte("second"))
	if tx.Answer.Status != 403 {
		t.Errorf("Answer = %v, want the first", tx.Answer.Status)
	}
	for _, c := range []struct {
		reset bool
		want  Closing
	}{{false, FIN}, {true, RST}, {false, RST}} {
		if tx.Close(c.reset); tx.Closed != c.want {
			t.Errorf("after Close(%v): %v, want %v", c.reset, tx.Closed, c.want)
		}
	}
	tx.Log("a")
	tx.Log("b")
	if diff := cmp.Diff([]string{"a", "b"}, tx.Lines); diff != "" {
		t.Errorf("Lines (-want +got):\n%s", diff)
	}
	if got := Open.String() + FIN.String() + RST.String(); got != "openFINRST" {
		t.Errorf("names of Closing: %s", got)
	}
}
