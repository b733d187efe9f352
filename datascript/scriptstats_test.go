package datascript

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// brokenTables panic, fail, or take a second.
type brokenTables struct{ *fakeTables }

func (brokenTables) Lookup(_ context.Context, _, key string, _ time.Duration) (string, time.Duration, bool, error) {
	switch key {
	case "panic":
		panic("a fault of the host")
	case "slow":
		<-time.After(time.Second)
		return "", 0, false, nil
	}
	return "", 0, false, errors.New("the store is away")
}

// TestScriptStats has a script fail in each way, and the counts outlive the
// engine.
func TestScriptStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		metrics := new(Metrics)
		env := Env{Tables: brokenTables{newTables()}, Metrics: metrics, Limits: Limits{Instructions: 20_000, StringBytes: 1 << 12, HostTime: -1}}
		e := newEngine(t, env)
		for name, source := range map[string]string{
			"fine":         `local n = 0 for i = 1, 100 do n = n + i end`,
			"waits":        `avi.vs.table_lookup("slow")`,
			"script":       `nothing()`,
			"instructions": `while true do end`,
			"memory":       `local s = "x" while true do s = s .. s end`,
			"depth":        `local function f() return 1 + f() end f()`,
			"service":      `avi.vs.table_lookup("k")`,
			"panic":        `avi.vs.table_lookup("panic")`,
		} {
			s, err := Compile(name, Chunk{Event: HTTPReq, Source: source}, Chunk{Event: HTTPResp, Source: "local a"})
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				_ = e.Run(t.Context(), s, HTTPReq, newExchange())
				_ = e.Run(t.Context(), s, HTTPReqData, newExchange()) // has no code for it
			}
			e = newEngine(t, env) // as after an update
		}
		all := e.ScriptStats()
		used := map[string]uint64{}
		for _, s := range all {
			used[s.Script] = s.Instructions
			if want := map[string]time.Duration{"waits": 2 * time.Second}[s.Script]; s.Time != want {
				t.Errorf("%s: took %v, want %v", s.Script, s.Time, want)
			}
		}
		if n := used["fine"]; n < 2*100 || n > 2*1000 {
			t.Errorf("a loop of 100 rounds, twice: %d instructions", n)
		}
		if n := used["instructions"]; n < 2*20_000 || n > 2*20_100 {
			t.Errorf("an endless loop, twice: %d instructions", n)
		}
		if n := used["service"]; n == 0 || n > 2*2000 {
			t.Errorf("a call of a service, twice: %d instructions", n)
		}
		of := func(name string, failures map[string]uint64) ScriptStats {
			return ScriptStats{Script: name, Event: HTTPReq, Runs: 2, Failures: failures}
		}
		failed := func(name string) ScriptStats { return of(name, map[string]uint64{name: 2}) }
		want := []ScriptStats{
			failed("depth"), of("fine", map[string]uint64{}), failed("instructions"), failed("memory"), failed("panic"),
			failed("script"), failed("service"), of("waits", map[string]uint64{}),
		}
		if diff := cmp.Diff(want, all, cmpopts.IgnoreFields(ScriptStats{}, "Instructions", "Time")); diff != "" {
			t.Errorf("ScriptStats (-want +got):\n%s", diff)
		}
	})
}

// TestFailureKinds has the failures that a test cannot make in virtual time.
func TestFailureKinds(t *testing.T) {
	for want, err := range map[string]*RuntimeError{
		"script":       {Message: "overflow of a stack"},
		"depth":        {Message: `[string "x"]:1: stack overflow`},
		"busy":         {Cause: ErrBusy},
		"time":         {Cause: &BudgetError{"time of services", 1}},
		"instructions": {Cause: &BudgetError{"pattern steps", 1}},
		"memory":       {Cause: &BudgetError{"bytes in all", 1}},
		"service":      {Cause: context.Canceled},
		"panic":        {Cause: &PanicError{}},
	} {
		if got := failureKinds[failureKind(err)]; got != want {
			t.Errorf("%+v: %s, want %s", err, got, want)
		}
	}
}
