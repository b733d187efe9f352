package datascripttest

import (
	"net/http"

	"github.com/limpetlb/limpet/datascript"
)

// A Reporter takes reports of failures. [testing.T], testing.B and testing.F
// are Reporters; a program that checks scripts outside of a Go test brings its
// own. It does no harm if Fatalf returns.
type Reporter interface {
	// Helper says that the calling function reports for its caller.
	Helper()
	// Errorf takes an error after which the test goes on.
	Errorf(format string, args ...any)
	// Fatalf takes an error after which the test cannot go on.
	Fatalf(format string, args ...any)
	// Logf takes news that are no error, such as that a file was updated.
	Logf(format string, args ...any)
}

// Compile compiles a script. A fault in it is fatal; should the Reporter go on,
// Compile returns nil.
func Compile(t Reporter, name string, chunks ...datascript.Chunk) *datascript.Script {
	t.Helper()
	s, err := datascript.Compile(name, chunks...)
	if err != nil {
		t.Fatalf("%v", err)
		return nil
	}
	return s
}

// Run takes requests through the service, one after the other, and returns a
// result for each. A script that fails is an error, reported with its
// traceback; tests that expect one call [VirtualService.Do]. A service that is
// set up wrongly is a fatal error; should the Reporter go on, Run returns the
// results up to there.
func Run(t Reporter, vs *VirtualService, requests ...*http.Request) []*Result {
	t.Helper()
	results := make([]*Result, 0, len(requests))
	for i, r := range requests {
		result, err := vs.Do(r)
		if err != nil {
			t.Fatalf("request %d: %v", i+1, err)
			return results
		}
		if e := result.Err; e != nil {
			t.Errorf("request %d: script %q failed in %v: %s\n%s", i+1, e.Script, e.Event, e.Message, e.Traceback)
		}
		results = append(results, result)
	}
	return results
}
