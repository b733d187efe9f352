package lua51

import (
	"testing"
)

// A local that a closure shares stays shared after an error was caught. The
// VM alone would cut it off.
func TestPcallKeepsUpvalues(t *testing.T) {
	x, err := newHost(Limits{}).run(t, `
		local n = 0
		local function add() n = n + 1 end
		pcall(function() pcall(error, "inner") error("outer") end)
		add()
		pcall(error, {})
		add()
		log(n)`)
	if err != nil || x.logged()[0] != "2" {
		t.Errorf("log %v, error %v; want 2", x.logs, err)
	}
}
