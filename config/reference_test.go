package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"iter"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet/internal/configkeys"
)

const referenceName = "../docs/reference/keys.md"

func allKeys(t *testing.T) configkeys.List {
	t.Helper()
	keys, err := configkeys.Parse(madeSchema(t))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// The reference of all keys is what the schema says.
func TestReference(t *testing.T) {
	t.Parallel()
	made := reference(allKeys(t))
	if *update {
		if err := os.WriteFile(referenceName, made, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(referenceName)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(string(made), string(want)); diff != "" {
		t.Errorf("%s is not what the schema says; run go generate ./config (-schema +document):\n%s", referenceName, diff)
	}
}

// Whatever is a number of bytes may have a unit.
func TestSizes(t *testing.T) {
	t.Parallel()
	sizes, ofBytes := 0, regexp.MustCompile(`(?i)\bbytes\b|Bytes$|\b[KMG]i?B\b`)
	for _, k := range allKeys(t) {
		switch {
		case k.Type == "size":
			sizes++
		case k.Name() == "nearEntries": // counts values, and says how long these may be
		case k.Type == "whole number" && (ofBytes.MatchString(k.Text) || ofBytes.MatchString(k.Name())):
			t.Errorf("%s is a number of bytes without the tag unit: %s", k.Paths[0], k.Text)
		}
	}
	if sizes < 15 {
		t.Errorf("%d sizes", sizes)
	}
	_, errs := loaded(t, map[string]string{"limpet.yaml": "pools: [{name: web, reselect: {maxBody: 1MiB, retries: 1KiB}, servers: [{address: 10.0.0.1}]}]\n"}, "limpet.yaml")
	if !strings.Contains(errs, `pools[0].reselect.retries: want a whole number, not "1KiB"`) || strings.Contains(errs, "maxBody") {
		t.Errorf("%s", errs)
	}
}

// reference is the document about all keys.
func reference(keys configkeys.List) []byte {
	mappings := map[string]configkeys.List{}
	var order []string // by their shortest paths
	for _, k := range keys {
		if mappings[k.Mapping] == nil {
			order = append(order, k.Mapping)
		}
		mappings[k.Mapping] = append(mappings[k.Mapping], k)
	}
	above := func(path string) string { return strings.TrimSuffix(path[:strings.LastIndexByte(path, '.')+1], ".") }
	first := func(mapping string) string { return above(mappings[mapping][0].Paths[0]) }
	slices.SortStableFunc(order, func(a, b string) int { return strings.Compare(first(a), first(b)) })

	var b bytes.Buffer
	b.WriteString("# All keys of the configuration file\n\n" +
		"This page is made from the schema, by `go generate ./config`. `limpet help KEY` prints what it says of a key, with an example, such as\n" +
		"`limpet help healthMonitors.interval`. [configuration.md](configuration.md) shows how the keys fit together.\n\n" +
		"The heading of each table is the path to its keys: `pools.healthMonitors` are those of each health monitor of each pool. Durations have the units ns,\n" +
		"us, ms, s, m and h; sizes are in bytes. The default applies if the key is missing or 0. But a 0 of `process.startWait`, `poolGroups.members.ratio`\n" +
		"and `tracing.sample` is a value like others, and a 0 of `pools.servers.ratio` is refused.\n\n" +
		"On reload, a `live` change is in force at once and loses nothing; with `fresh`, it is in force at once and something begins anew; with\n" +
		"`restart`, it waits for a restart. A program that opens the addresses itself must restart for changes of listeners.\n")
	for _, mapping := range order {
		list := mappings[mapping]
		title := cmp.Or(first(mapping), "Top level")
		fmt.Fprintf(&b, "\n## %s\n\n", title)
		var also []string
		for _, path := range list[0].Paths[1:] {
			also = append(also, "`"+cmp.Or(above(path), "top level")+"`")
		}
		if len(also) > 0 {
			fmt.Fprintf(&b, "Also %s.\n\n", strings.Join(also, ", "))
		}
		b.WriteString("| Key | Value | Default | Bounds | On reload | Since | Meaning |\n|---|---|---|---|---|---|---|\n")
		slices.SortFunc(list, func(a, b *configkeys.Key) int { return strings.Compare(a.Name(), b.Name()) })
		for _, k := range list {
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s | %s |\n", k.Name(), cell(k.Type), cell(k.Default), between(k), cell(k.Reload), k.Since, cell(k.Text))
		}
	}
	return b.Bytes()
}

var cell = strings.NewReplacer("|", `\|`, "<", `\<`, "*", `\*`, "[", `\[`).Replace

func between(k *configkeys.Key) string {
	switch {
	case k.Min != "" && k.Max != "":
		return k.Min + " to " + k.Max
	case k.Min != "":
		return "at least " + k.Min
	case k.Max != "":
		return "at most " + k.Max
	}
	return ""
}

// Each key has a sentence, and is found by each of its paths. Its example is
// read without a fault of its form.
func TestKeys(t *testing.T) {
	t.Parallel()
	keys := allKeys(t)
	for _, k := range keys {
		if k.Text == "" || k.Example == "" {
			t.Errorf("%s (%s): comment %q, example %q; testdata/examples.yaml has examples that no document has", k.Paths[0], k.Mapping, k.Text, k.Example)
		}
		for _, path := range k.Paths {
			if found, exact := keys.Find(path); !exact || found[0] != k {
				t.Errorf("%s is not found", path)
			}
		}
		_, err := Parse(t.Context(), "example.yaml", []byte(k.Example), nil)
		for fault := range faultsIn(err) {
			own := inList.ReplaceAllString(fault.Path, "") == k.Paths[0]
			if malformed.MatchString(fault.Error()) && (own || !missing.MatchString(fault.Error())) || own && outside.MatchString(fault.Error()) && !dependent.MatchString(fault.Error()) {
				t.Errorf("%s: the example %s: %v", k.Paths[0], k.Example, fault)
			}
		}
	}
	if len(keys) < 400 {
		t.Errorf("%d keys", len(keys))
	}
}

var (
	// malformed are the faults of a decoder, outside those of bounds. Others
	// are about keys that an example does not have.
	malformed = regexp.MustCompile(`unknown field|: want an? |: want true|is not one of`)
	missing   = regexp.MustCompile(`want a certificate|want a file|want an address`)
	outside   = regexp.MustCompile(`(less|more) than|not a known value`)
	dependent = regexp.MustCompile(`the number of`) // other keys, which the example does not have
	inList    = regexp.MustCompile(`\[[^]]*\]`)
)

func faultsIn(err error) iter.Seq[*Error] {
	return func(yield func(*Error) bool) {
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			for _, e := range joined.Unwrap() {
				if fault, ok := errors.AsType[*Error](e); ok && !yield(fault) {
					return
				}
			}
		}
	}
}

// claimed is what the document says of the default and the bounds of a key.
var claimed = regexp.MustCompile("`([A-Za-z]+)` \\(([0-9]+[a-z]+) unless given(?:, ([0-9]+[a-z]+) at most|, ([0-9]+[a-z]+) to\\s([0-9]+[a-z]+))?")

// The document says of defaults and bounds what the types say.
func TestDocumentLimits(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/reference/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	claims, keys := claimed.FindAllStringSubmatch(string(text), -1), allKeys(t)
	for _, c := range claims {
		name, want := c[1], configkeys.Key{Default: c[2], Min: c[4], Max: c[3] + c[5]}
		var known []string
		ok := false
		for _, k := range keys {
			if k.Name() == name {
				ok = ok || k.Default == want.Default && (want.Min == "" || k.Min == want.Min) && (want.Max == "" || k.Max == want.Max)
				known = append(known, fmt.Sprintf("%s: %s, %s", k.Paths[0], k.Default, between(k)))
			}
		}
		if !ok {
			t.Errorf("%s: no such key among %q", c[0], known)
		}
	}
	if len(claims) < 3 {
		t.Errorf("%d claims", len(claims))
	}
}
