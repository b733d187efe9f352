package datascript

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReferences(t *testing.T) {
	for _, tt := range []struct {
		name, source string
		want         []Reference
	}{
		{"none", "-- HTTP_REQ\nx = 'web'\navi.pool.chash('web') avi.pool.name('web')\navi.vs.table_insert('t', 'k', 'v', 5)", nil},
		{"each kind", `-- HTTP_RESP
local up = avi.pool.get_servers("a")
if avi.pool.get_server_status("b", "10.0.0.1", 80) == 1 then up = 0 end
avi.ipgroup.contains("c", "10.0.0.1") avi.http.ipgroup.contains("d", "10.0.0.1")
avi.stringgroup.equals("e", "x")
avi.http.stringgroup.contains_CASE("f", "x")
-- HTTP_REQ
avi.pool.select("g", "10.0.0.1", 80)
avi.poolgroup.select("h", "label")
avi.vs.ratelimit.exceed("i", "key")
avi.vs.rate.limit.exceed("j", "key")
avi.jwt.verify("token", "k")`, []Reference{
			{"pool", "g", HTTPReq, 8},
			{"pool group", "h", HTTPReq, 9},
			{"rate limiter", "i", HTTPReq, 10},
			{"rate limiter", "j", HTTPReq, 11},
			{"key set", "k", HTTPReq, 12},
			{"pool", "a", HTTPResp, 2},
			{"pool", "b", HTTPResp, 3},
			{"IP group", "c", HTTPResp, 4},
			{"IP group", "d", HTTPResp, 4},
			{"string group", "e", HTTPResp, 5},
			{"string group", "f", HTTPResp, 6},
		}},
		{"the published listing", listing, []Reference{{"pool", "my_pool", HTTPReq, 8}}},
		{"forms of a constant", `-- HTTP_REQ
avi.pool.select "a"
avi.pool.select([[b]])
avi.pool.select(7)
avi.pool.select(("c"))
avi["pool"]["select"]("d")
avi.pool.select(
  "e"
)
local f, g = "f"
avi.pool.select(f)
avi.pool.select(0x10)`, []Reference{
			{"pool", "a", HTTPReq, 2}, {"pool", "b", HTTPReq, 3}, {"pool", "7", HTTPReq, 4}, {"pool", "c", HTTPReq, 5},
			{"pool", "d", HTTPReq, 6}, {"pool", "e", HTTPReq, 8}, {"pool", "f", HTTPReq, 11}, {"pool", "16", HTTPReq, 12},
		}},
		{"choices", `-- HTTP_REQ
avi.pool.select(avi.http.secure() and "a" or "b")
avi.pool.select(pool or "c")
avi.pool.select("x" and "d")`, []Reference{{"pool", "a", HTTPReq, 2}, {"pool", "b", HTTPReq, 2}, {"pool", "c", HTTPReq, 3}, {"pool", "d", HTTPReq, 4}}},
		{"no constants", `-- HTTP_REQ
local one, two = "a", "b"
two = "c"
avi.pool.select(two) avi.pool.select(one .. two) avi.pool.select(three) avi.pool.select(nil) avi.pool.select(true)
avi.pool.select(f()) avi.pool.select() avi.pool.get_servers() avi.pool.select({}) avi.pool.select(...)
function choose(pool) avi.pool.select(pool) end`, nil},
		{"protected", `-- HTTP_REQ
pcall(avi.pool.select, "a")
pcall(function() avi.pool.select("b") local function f() avi.pool.select("c") end f() end)
local function try() avi.pool.select("d") end
pcall(try)
function later() avi.pool.select("e") end
xpcall(later, print)
-- HTTP_RESP
local known = pcall(avi.pool.get_servers, "f")
function free() return avi.pool.get_servers("g") end
free() pcall(free())`, []Reference{{"pool", "g", HTTPResp, 10}}},
		{"names of the script's own", "-- HTTP_REQ\nlocal avi = {pool = {select = print}}\navi.pool.select('a')", nil},
		{"once", "-- HTTP_REQ\navi.pool.select('a') avi.pool.get_servers('a')\navi.pool.select('a')", []Reference{{"pool", "a", HTTPReq, 2}, {"pool", "a", HTTPReq, 3}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := mustCompile(t, Chunk{Source: tt.source})
			if diff := cmp.Diff(tt.want, s.References()); diff != "" {
				t.Errorf("references (-want +got):\n%s", diff)
			}
		})
	}
}

// The names in a chunk have the lines of the file that it is a part of.
func TestReferenceLines(t *testing.T) {
	s := mustCompile(t, Chunk{Event: HTTPReq, Line: 41, Source: "\navi.pool.select('a')"}, Chunk{Event: HTTPResp, Source: "avi.pool.get_servers('b')"})
	want := []Reference{{"pool", "a", HTTPReq, 42}, {"pool", "b", HTTPResp, 1}}
	got := s.References()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("references (-want +got):\n%s", diff)
	}
	got[0].Name = "changed"
	if s.References()[0].Name != "a" {
		t.Error("the caller does not own the slice")
	}
}

// A function of a module whose objects have names is either among those with
// such an argument or has none.
func TestNameArguments(t *testing.T) {
	without := []string{"avi.pool.server_ip", "avi.pool.get_server_info", "avi.pool.name", "avi.pool.chash", "avi.pool.persistence", "avi.pool.get_server_ip",
		"avi.vs.rate_limit", "avi.jwt.claims"}
	seen := 0
	for path := range functions {
		named := false
		for _, module := range []string{"avi.pool.", "avi.poolgroup.", "avi.ipgroup.", "avi.http.ipgroup.", "avi.stringgroup.", "avi.http.stringgroup.", "avi.vs.rate", "avi.jwt."} {
			named = named || strings.HasPrefix(path, module)
		}
		_, has := nameArguments[path]
		if has {
			seen++
		}
		if has == slices.Contains(without, path) && named || has && !named {
			t.Errorf("%s: is there a name among its arguments, and is it among those of nameArguments?", path)
		}
	}
	if seen != len(nameArguments) {
		t.Errorf("%d functions of %d exist", seen, len(nameArguments))
	}
}

func FuzzReferences(f *testing.F) {
	f.Add(listing)                                                                                              // a variable
	f.Add("-- HTTP_REQ\navi.pool.select(a and 'b' or 7 or [[c\n]])\n-- HTTP_RESP\navi.pool.get_servers(\n'd')") // choices, lines
	f.Add("-- HTTP_REQ\npcall(function() avi.jwt.verify('t', 'k') end) function f() avi.ipgroup.contains('g', '') end xpcall(f)")
	f.Add("-- HTTP_REQ\ngoto = 'goto_is_a_name' avi.pool.select(goto) avi.stringgroup.equals(-0x1p4, avi.HTTP_GET)") // spellings
	f.Fuzz(func(t *testing.T, source string) {
		s, err := Compile("fuzz", Chunk{Source: source})
		if err != nil {
			return
		}
		lines := strings.Count(source, "\n") + strings.Count(source, "\r") + 1
		list := s.References()
		for i, r := range list {
			if r.Line < 1 || r.Line > lines || !s.Handles(r.Event) || r.Kind == "" {
				t.Errorf("%+v in %d lines", r, lines)
			}
			if i > 0 && (r.Event < list[i-1].Event || r.Event == list[i-1].Event && r.Line < list[i-1].Line) {
				t.Errorf("%+v after %+v", r, list[i-1])
			}
		}
	})
}
