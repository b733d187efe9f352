package datascript

import (
	"errors"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/limpetlb/limpet/internal/testchild"
	"github.com/limpetlb/limpet/internal/testrace"
)

// eventMemory is what one event may come to hold; Limits.Concurrent relies on
// it.
const eventMemory = defaultAllocBytes >> 20 // MiB

// Each hostile script, in a process of its own with 512 MiB for data, ends
// without taking the process with it, and makes it grow by no more than what
// an event is reckoned with. Normally only those that go for memory run; with
// -hostile, or "make hostile", all do.
func TestHostileProcess(t *testing.T) {
	if testchild.Running() {
		runHostileProcess(t, os.Getenv("LIMPET_HOSTILE"))
		return
	}
	if testrace.Enabled {
		return // which needs far more memory itself
	}
	var largest int64
	var largestName string
	tried := map[string]bool{}
	for _, name := range sortedNames(hostileScripts(t)) {
		kind, _, _ := strings.Cut(name, "-")
		if !*allHostile && kind != "string" && kind != "table" && kind != "registry" || testing.Short() && tried[kind] {
			continue
		}
		tried[kind] = true
		growth := hostileGrowth(t, name)
		for again := 0; growth > eventMemory && again < 3; again++ {
			growth = min(growth, hostileGrowth(t, name)) // a busy machine collects garbage late
		}
		if *allHostile {
			t.Logf("%-26s %4d MiB", name, growth)
		}
		if growth > eventMemory {
			t.Errorf("%s: the process grew by %d MiB, want at most %d", name, growth, eventMemory)
		}
		if growth > largest {
			largest, largestName = growth, name
		}
	}
	t.Logf("the process that grew most, that of %s, grew by %d MiB", largestName, largest)
}

// hostileGrowth runs a script in a process of its own, and returns by how many
// MiB that made the process larger than it had been before.
func hostileGrowth(t *testing.T, name string) int64 {
	t.Helper()
	cmd := testchild.Command(t, "LIMPET_HOSTILE="+name)
	cmd.Args = append(cmd.Args, "-test.v")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v\n%s", name, err, out)
		return 0
	}
	_, text, _ := strings.Cut(string(out), "KiB before: ")
	before, err := strconv.ParseInt(strings.Fields(text)[0], 10, 64)
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return (cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss - before) / 1024
}

func runHostileProcess(t *testing.T, name string) {
	t.Helper()
	const memory = 512 << 20
	if err := syscall.Setrlimit(syscall.RLIMIT_DATA, &syscall.Rlimit{Cur: memory, Max: memory}); err != nil {
		t.Fatal(err)
	}
	debug.SetMemoryLimit(memory * 3 / 4)
	source, ok := hostileScripts(t)[name]
	if !ok {
		t.Fatal(errors.New("no script " + name))
	}
	e := newEngine(t, Env{Tables: discardTables{}, Limits: Limits{Time: time.Minute}})
	probed(t, e)
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	t.Logf("KiB before: %d", usage.Maxrss)
	e.lua.Limits().Time = defaultTime
	misbehave(t, e, name, source)
	e.lua.Limits().Time = time.Minute // a busy machine must not fail the probe
	probed(t, e)
}
