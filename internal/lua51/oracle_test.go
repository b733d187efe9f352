package lua51

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/limpetlb/limpet/internal/oneline"
)

// An oracle is the real Lua 5.1, which runs programs as we should: one process
// for all that it is given.
type oracle struct {
	in  io.Writer
	out *bufio.Reader
}

// oracleDriver reads programs, each after a line with its length, which is
// negative if tostring must not show addresses, and writes what became of each:
// the number of calls of print, and for each call and for the error, if any, a
// length and that many bytes.
const oracleDriver = `
local debug, io, error, type, loadstring, setfenv, xpcall, unpack, tostring, select = debug, io, error, type, loadstring, setfenv, xpcall, unpack, tostring, select
local getinfo, sethook = debug.getinfo, debug.sethook
local concat, clock = table.concat, os.clock
local function copy(t, names)
  local c = {}
  for name in names:gmatch("%S+") do c[name] = t[name] end
  return c
end
local strings = getmetatable("")
while true do
  local n = io.read("*l")
  if not n then break end
  n = tonumber(n)
  local source = io.read(math.abs(n))
  local out = {}
  local env = copy(_G, "assert error getmetatable ipairs next pairs pcall rawequal rawget rawset select setmetatable tonumber tostring type unpack xpcall _VERSION")
  env.string = copy(string, "byte char find format gfind gmatch gsub len lower match rep reverse sub upper")
  env.table = copy(table, "concat foreach foreachi getn insert maxn remove setn sort")
  env.math = copy(math, "abs acos asin atan atan2 ceil cos cosh deg exp floor fmod frexp huge ldexp log log10 max min mod modf pi pow rad sin sinh sqrt tan tanh")
  env.os = copy(os, "date difftime time")
  if n < 0 then
    function env.tostring(...)
      local v = ...
      local s = tostring(...)
      if (type(v) == "table" or type(v) == "function") and s:find("^" .. type(v) .. ": 0x%x+$") then return type(v) end
      return s
    end
  end
  strings.__index = env.string
  function env.print(...)
    local where, level = "", 2
    while true do
      local i = getinfo(level, "Sl")
      if not i then break end
      if i.currentline > 0 then where = i.short_src .. ":" .. i.currentline .. ": " break end
      level = level + 1
    end
    local t = {...}
    for i = 1, select("#", ...) do
      t[i] = tostring(t[i])
      if type(t[i]) ~= "string" and type(t[i]) ~= "number" then error("'tostring' must return a string to 'print'", 2) end
    end
    out[#out+1] = where .. concat(t, "\t", 1, select("#", ...))
  end
  local f, err = loadstring(source, "=[string \"My Script\"]")
  local failed = false
  if f then
    setfenv(f, env)
    -- Once it has gone on for too long, each instruction of the program fails.
    local stop
    function stop()
      local i = getinfo(2, "S")
      if i.what == "C" or i.short_src == "(command line)" then return end
      sethook(stop, "", 1)
      error("too many instructions", 0)
    end
    -- A few instructions of the library can take long.
    local count, start = 0, clock()
    sethook(function()
      count = count + 1
      if count >= 1500 or clock() - start > 0.5 then sethook(stop, "", 1) end
    end, "", 1000)
    local ok, e = xpcall(f, function(e) return e end)
    sethook()
    if not ok then
      failed = true
      if type(e) == "string" or type(e) == "number" then err = tostring(e) else err = "(error object is a " .. type(e) .. " value)" end
    end
  else
    failed = true
  end
  strings.__index = string
  io.write(#out, "\n")
  for _, s in ipairs(out) do io.write(#s, "\n", s) end
  if failed then io.write(#err, "\n", err) else io.write("-1\n") end
  io.flush()
end
`

// startOracle starts the interpreter. If there is none, the test is
// skipped, or fails where it must not be.
func startOracle(t testing.TB) *oracle {
	t.Helper()
	path, err := exec.LookPath("lua5.1")
	if err != nil {
		const hint = "no lua5.1; install it with: apt-get install -y lua5.1"
		if os.Getenv("CI") == "true" || os.Getenv("LIMPET_REQUIRE") != "" {
			t.Fatal(hint)
		}
		t.Skip(hint)
	}
	cmd := exec.Command(path, "-e", oracleDriver)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC")
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
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error("lua5.1:", err)
		}
	})
	return &oracle{in, bufio.NewReaderSize(out, 1<<16)}
}

// An outcome is what a program printed, and its error.
type outcome struct {
	Printed []string
	Failed  bool
	Error   string
}

func (r *oracle) run(t testing.TB, source string) (o outcome) {
	t.Helper()
	r.feed(source)
	return r.read(t)
}

// runPlain runs a program with a tostring that shows no addresses.
func (r *oracle) runPlain(t testing.TB, source string) (o outcome) {
	t.Helper()
	fmt.Fprintf(r.in, "-%d\n%s", len(source), source)
	return r.read(t)
}

func (r *oracle) read(t testing.TB) (o outcome) {
	t.Helper()
	for range r.number(t) {
		o.Printed = append(o.Printed, oneline.Escape(r.text(t, r.number(t))))
	}
	if n := r.number(t); n >= 0 {
		o.Failed, o.Error = true, r.text(t, n)
	}
	return o
}

func (r *oracle) number(t testing.TB) int {
	t.Helper()
	line, err := r.out.ReadString('\n')
	if err != nil {
		t.Fatal("lua5.1:", err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal("lua5.1:", err)
	}
	return n
}

// addresses are what our tostring leaves out.
var addresses = regexp.MustCompile(`(table|function|userdata|builtin): ?(builtin: )?0x[0-9a-f]{12}`)

func (r *oracle) text(t testing.TB, n int) string {
	t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(r.out, b); err != nil {
		t.Fatal("lua5.1:", err)
	}
	if bytes.Contains(b, []byte("0x")) {
		b = addresses.ReplaceAll(b, []byte("$1"))
	}
	return string(b)
}

// runHere runs a program in an engine of ours.
func runHere(t testing.TB, e *host, source string) (o outcome) {
	t.Helper()
	x := &record{}
	s, err := e.compile(source)
	if err == nil {
		err = e.exec(t.Context(), s.Programs()[0], x)
	}
	o.Printed = x.logs
	if err != nil {
		o.Failed, o.Error = true, err.Error()
		if ce := (*CompileError)(nil); errors.As(err, &ce) {
			o.Error = fmt.Sprintf("%s:%d: %s", ChunkName("My Script"), ce.Line, ce.Message)
			if ce.Token != "" {
				o.Error += fmt.Sprintf(" near '%s'", ce.Token)
			}
		}
	}
	return o
}

// comparable limits an engine as little as the reference is.
func newComparableEngine(testing.TB) *host { return newHost(Limits{}) }

func (o outcome) equal(p outcome) bool {
	return o.Failed == p.Failed && o.Error == p.Error && slices.Equal(o.Printed, p.Printed)
}

// feed writes a program whose outcome is then read. That reports errors.
func (r *oracle) feed(source string) { fmt.Fprintf(r.in, "%d\n%s", len(source), source) }
