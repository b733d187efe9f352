package datascript

import (
	"errors"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
)

// Each hostile script, in a process of its own with 512 MiB for data, ends
// without taking the process with it. Normally only those that go for memory
// run; with -hostile, or "make hostile", all do.
func TestHostileProcess(t *testing.T) {
	if name := os.Getenv("LIMPET_HOSTILE"); name != "" {
		runHostileProcess(t, name)
		return
	}
	if raceDetector {
		return // which needs far more memory itself
	}
	var largest int64
	var largestName string
	for _, name := range sortedNames(hostileScripts(t)) {
		if !*allHostile && !strings.HasSuffix(name, "-hoard") && name != "table-sparse-many" && name != "registry-arguments" {
			continue
		}
		cmd := exec.Command(os.Args[0], "-test.run=^TestHostileProcess$", "-test.count=1")
		cmd.Env = append(os.Environ(), "LIMPET_HOSTILE="+name)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
			continue
		}
		peak := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss / 1024
		if *allHostile {
			t.Logf("%-26s %4d MiB", name, peak)
		}
		if peak > largest {
			largest, largestName = peak, name
		}
	}
	t.Logf("the largest process, of %s, had %d MiB", largestName, largest)
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
	e := newEngine(t, Env{Tables: discardTables{}, Limits: Limits{Time: defaultTime}})
	misbehave(t, e, name, source)
	probed(t, e)
}
