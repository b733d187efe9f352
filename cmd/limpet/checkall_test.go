package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet/internal/cputime"
	"github.com/limpetlb/limpet/internal/testfiles"
)

var update = flag.Bool("update", false, "write golden files")

// A faultyFile is a configuration in the making. A template has the mark "§"
// where its fault is, and "#" in place of a number of its own.
type faultyFile struct {
	text   strings.Builder
	lines  int
	n      int
	places []string // of faults
}

func (f *faultyFile) add(template string) {
	f.n++
	template = strings.ReplaceAll(template, "#", fmt.Sprint(f.n))
	for line := range strings.Lines(template) {
		f.lines++
		if before, after, ok := strings.Cut(line, "§"); ok {
			f.places = append(f.places, fmt.Sprintf("%d:%d", f.lines, len(before)+1))
			line = before + after
		}
		f.text.WriteString(line)
	}
}

// A section is a list of a configuration: its usual item, and items with
// faults.
type section struct {
	key    string
	share  int // of the lines of the file, in percent
	usual  string
	faulty []string
}

var sections = []section{
	{"pools", 50, `  - name: pool #
    algorithm: roundRobin
    servers:
      - {address: "10.1.0.1:80", ratio: 2}
      - address: 10.1.0.2:80
        maxConnections: 100
    healthMonitors:
      - {checker: tcp, interval: 5s}
`, []string{
		"  - name: pool #\n    servers:\n      - address: 10.1.0.1:80\n        §wieght: 2\n",
		"  - name: pool #\n    servers:\n      - {address: 10.1.0.1:80, ratio: §two}\n",
		"  - name: pool #\n    servers: [{address: 10.1.0.1:80, ratio: §99}]\n",
		"  - name: pool #\n    servers:\n      - address: §10.1.0\n",
		"  - name: pool #\n    algorithm: §roundRobbin\n    servers: [{address: 10.1.0.1}]\n",
		"  - name: pool #\n    servers: [{address: 10.1.0.1}]\n    healthMonitors: [{checker: tcp, interval: §soon}]\n",
		"  - name: pool #\n    servers:\n      - address: 10.1.0.1\n        ratio: 2\n        §ratio: 3\n",
		"  - {name: pool #, servers: [{address: 10.1.0.1}], failAction: {kind: backup, backup: §pool 0}}\n",
		"  - name: pool #\n    servers: [{address: 10.1.0.1, name: a}, {address: 10.1.0.2, name: §a}]\n",
	}},
	{"poolGroups", 5, "  - {name: group #, members: [{pool: pool 2, label: high}, {pool: pool 3}]}\n", []string{
		"  - {name: group #, members: [{pool: pool 2}, {pool: §pool two}]}\n",
		"  - name: group #\n    members: [{pool: pool 2}]\n    fallbackLabel: §low\n",
	}},
	{"ipGroups", 5, "  - {name: addresses #, entries: [192.0.2.1, 198.51.100.0/24]}\n", []string{
		"  - §{name: addresses #, entries: [192.0.2.1, 192.0.2.300]}\n",
	}},
	{"rateLimiters", 5, "  - {name: limiter #, count: 10, period: 1m}\n", []string{
		"  - {name: limiter #, count: §0}\n",
	}},
	{"httpSecurity", 15, "  - name: security #\n    match: {path: {op: begins with, values: [/admin]}}\n    action: {respond: {status: 403}}\n", []string{
		"  - name: security #\n    match: {path: {op: §resembles, values: [/admin]}}\n    action: close\n",
		"  - name: security #\n    match: {clientIP: {prefixes: [§10.0.0.0/33]}}\n    action: close\n",
		"  - name: security #\n    match: {path: {op: equals, values: [/a]}}\n    action:\n      respond: {status: §999}\n",
		"  - {name: security #, action: §clos}\n",
	}},
	{"httpRequest", 20, "  - name: request #\n    match: {host: {op: equals, values: [a.example]}}\n    action: {modify: {pool: {name: pool 2}}}\n", []string{
		"  - name: request #\n    action: {modify: {pool: {name: §pool none}}}\n",
		"  - name: request #\n    match: {path: {op: equals, values: [/a]}}\n    action: {redirect: {protocol: §htps, host: a.example}}\n",
		"  - name: request #\n    match: {clientIP: {groups: [§adresses]}}\n    action: {respond: {status: 403}}\n",
	}},
}

// newFaultyFile makes a configuration of about so many lines, which has each
// fault so many times.
func newFaultyFile(lines, times int) *faultyFile {
	f := &faultyFile{}
	for _, s := range sections {
		f.n = 0
		f.add(s.key + ":\n")
		usual := lines * s.share / 100 / strings.Count(s.usual, "\n")
		faults := len(s.faulty) * times
		for i := range usual {
			f.add(s.usual)
			for j := i * faults / usual; j < (i+1)*faults/usual; j++ {
				f.add(s.faulty[j%len(s.faulty)])
			}
		}
	}
	return f
}

// All faults of a large file come at once, each at its line and column.
func TestCheckLarge(t *testing.T) {
	f := newFaultyFile(10_000, 10)
	if f.lines < 10_000 || len(f.places) != 200 {
		t.Fatalf("%d faults in %d lines", len(f.places), f.lines)
	}
	dir := testfiles.Write(t, map[string]string{"large.yaml": f.text.String()})
	status, out, errs := invoke(t, dir, "check", "DIR/large.yaml")
	if status != failed || errs != "" {
		t.Errorf("status %d, %s", status, errs)
	}
	var places []string
	for line := range strings.Lines(out) {
		parts := strings.SplitN(line, ":", 4)
		places = append(places, strings.Join(parts[1:min(3, len(parts))], ":"))
	}
	if diff := cmp.Diff(f.places, places); diff != "" {
		t.Errorf("places (-want +got):\n%s", diff)
	}
	const golden = "testdata/large.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(out), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, []byte(out)) {
		t.Errorf("output (-want +got):\n%s", cmp.Diff(string(want), out))
	}
}

// The time that a check takes grows with the file, not with its square.
func TestCheckLargeCost(t *testing.T) {
	cost := func(lines, times int, enough time.Duration) time.Duration {
		f := newFaultyFile(lines, times)
		dir := testfiles.Write(t, map[string]string{"large.yaml": f.text.String()})
		return cputime.Least(5, enough, func() { invoke(t, dir, "check", "DIR/large.yaml") })
	}
	few := cost(2_500, 3, 0)
	many := cost(10_000, 12, 8*few)
	t.Logf("%v for 2,500 lines, %v for 10,000", few, many)
	if many > 12*few {
		t.Errorf("%v for 2,500 lines, %v for 10,000", few, many)
	}
}
