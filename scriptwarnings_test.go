package limpet_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet"
)

// A heading with a slip of the pen made its code part of the event above, and a
// script for HTTP_AUTH never ran without an authenticator; nobody was told.
func TestScriptWarnings(t *testing.T) {
	var out bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	cfg := limpet.Config{Logger: logger, Scripts: []limpet.Script{
		compile(t, "near", "-- HTTP_REQ\nx = 1\n-- HTTP_RESPONS\ny = 1"),
		compile(t, "auth", "-- HTTP_AUTH\nx = 1"),
	}}
	if _, err := limpet.New(cfg); err != nil {
		t.Fatal(err)
	}
	want := []string{
		`level=WARN msg="doubtful script" vs=limpet script=near line=3 warning="\"-- HTTP_RESPONS\" is not an event; did you mean HTTP_RESP?"`,
		`level=WARN msg="event never runs: there is no authenticator" vs=limpet script=auth event=HTTP_AUTH`,
	}
	if diff := cmp.Diff(want, strings.Split(strings.TrimSpace(out.String()), "\n")); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
	out.Reset()
	cfg.Authenticator, cfg.Scripts = basic{}, cfg.Scripts[1:]
	if _, err := limpet.New(cfg); err != nil || out.Len() > 0 {
		t.Errorf("error %v, log %s", err, out.String())
	}
}
