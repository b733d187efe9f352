package luasyntax_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/limpetlb/limpet/internal/luasyntax"
)

// referenceLimits are those of loadstring: the interpreter's call of the script
// that calls it is one level more than luac has.
var referenceLimits = luasyntax.Limits{Depth: 199, Bytes: 1 << 24}

// referenceProgram reads sources, each after its length in eight digits, and
// answers each with loadstring's error in the same form, empty for none. Bytes
// pass unchanged. Sources of compiled code never come here.
const referenceProgram = `
local input, output = io.stdin, io.stdout
while true do
  local length = input:read(8)
  if not length then break end
  length = tonumber(length)
  local source = length > 0 and input:read(length) or ""
  local chunk, fault = loadstring(source, "=x")
  fault = chunk and "" or fault
  output:write(string.format("%08d", #fault), fault)
end`

// requireReference skips the test if a program of Lua 5.1 is not installed,
// except where it must not be missing.
func requireReference(t testing.TB, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err == nil {
		return path
	}
	const advice = "%s is not installed: apt-get install -y lua5.1"
	if os.Getenv("CI") == "true" || os.Getenv("LIMPET_REQUIRE") != "" {
		t.Fatalf(advice, program)
	}
	t.Skipf(advice, program)
	return ""
}

// askReference returns what PUC Lua 5.1 says about each source: the error
// without the chunk name, or "".
func askReference(t testing.TB, sources []string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), requireReference(t, "lua5.1"), "-e", referenceProgram)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1)
	go func() {
		w := bufio.NewWriter(in)
		for _, s := range sources {
			fmt.Fprintf(w, "%08d%s", len(s), s)
		}
		written <- errors.Join(w.Flush(), in.Close())
	}()
	r := bufio.NewReader(out)
	answers := make([]string, len(sources))
	for i := range answers {
		var digits [8]byte
		if _, err := io.ReadFull(r, digits[:]); err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
		n, err := strconv.Atoi(string(digits[:]))
		if err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
		answer := make([]byte, n)
		if _, err := io.ReadFull(r, answer); err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
		answers[i] = strings.TrimPrefix(string(answer), "x:")
	}
	if err := errors.Join(<-written, cmd.Wait()); err != nil {
		t.Fatal(err)
	}
	return answers
}

// verdict returns the text of Check's error, or "".
func verdict(source string, o luasyntax.Limits) string {
	if err := luasyntax.Check(source, 1, o); err != nil {
		return err.Error()
	}
	return ""
}

// compare fails the test for each source on which Check and PUC Lua differ.
func compare(t *testing.T, sources []string) (accepted []string) {
	t.Helper()
	differences := 0
	for i, want := range askReference(t, sources) {
		got := verdict(sources[i], referenceLimits)
		if got == "" {
			accepted = append(accepted, sources[i])
		}
		if got == want || strings.Contains(want, "too complex") { // for which the VM has to look
			continue
		}
		if differences++; differences <= 10 {
			t.Errorf("source %.2000q\n got %q\nwant %q", sources[i], got, want)
		}
	}
	if differences > 10 {
		t.Errorf("%d differences in all", differences)
	}
	return accepted
}
