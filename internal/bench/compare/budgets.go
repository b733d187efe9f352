package main

import "regexp"

// A budget is what an operation of limpet's may cost, as the ratio of its time
// to that of a peer, measured in one run.
type budget struct {
	id    string
	group *regexp.Regexp // matches the names of benchmarks without their impl
	of    string         // the impl that has the budget
	peer  string         // the impl it is compared with
	max   float64
	why   string // what the peer is, or what the budget stands for
}

func re(s string) *regexp.Regexp { return regexp.MustCompile(`^(?:` + s + `)$`) }

// budgets are the promises, but for those about whole proxies, which the
// command e2e has. docs/performance.md tells how they were met.
var budgets = []budget{
	{"T1", re(`Table/op=lookup/entries=.*-2`), "limpet", "expirable", 0.27, "look-up of a live entry"},
	{"T1", re(`Table/op=lookup/entries=.*-2`), "limpet", "ttlcache", 0.20, "look-up of a live entry"},
	{"T1", re(`Table/op=lookup/entries=.*-2`), "limpet", "otter", 0.80, "look-up of a live entry"},
	{"T2", re(`Table/op=extend/entries=.*-2`), "limpet", "expirable", 0.20, "look-up that extends the lifetime"},
	{"T2", re(`Table/op=extend/entries=.*-2`), "limpet", "ttlcache", 0.15, "look-up that extends the lifetime"},
	{"T2", re(`Table/op=extend/entries=.*-2`), "limpet", "ristretto", 0.20, "look-up that extends the lifetime"},
	{"T2", re(`Table/op=extend/entries=.*-2`), "limpet", "otter", 0.70, "look-up that extends the lifetime"},
	{"T3", re(`Table/op=mixed/entries=.*-2`), "limpet", "expirable", 0.30, "nine look-ups, one insert"},
	{"T3", re(`Table/op=mixed/entries=.*-2`), "limpet", "otter", 0.70, "nine look-ups, one insert"},
	{"T3", re(`Table/op=insert/entries=.*-2`), "limpet", "expirable", 1.00, "insert of a new key into a full table"},
	{"T3", re(`Table/op=insert/entries=.*-2`), "limpet", "otter", 1.00, "insert of a new key into a full table"},
	// Hits, near misses and far misses each have to meet these. Only spread lists have the last one: a trie reaches the entries
	// of a clustered list in fewer cache misses.
	{"G1", re(`IPGroup/.*/entries=10-1`), "limpet", "bart.Lite", 1.20, "a short list"},
	{"G1", re(`IPGroup/.*/entries=(1k|100k|1M)-1`), "limpet", "bart.Lite", 1.00, "a long list"},
	{"G1", re(`IPGroup/.*/entries=(1k|100k)-1`), "limpet", "cidranger", 0.15, "a long list"},
	{"G1", re(`IPGroup/.*/list=spread/entries=100k-1`), "limpet", "bart.Lite", 0.50, "a list of which a trie misses the caches"},
	{"S1", re(`Listing-1`), "limpet", "naive", 0.30, "both events of the listing; naive: stock Lua, a new environment for each"},
	{"S2", re(`Listing-1`), "limpet", "unlimited", 1.10, "what the limits cost on events"},
	{"S2", re(`Loops-1`), "limpet", "unlimited", 1.25, "what the limits cost on loops"},
}

// A limit is what an operation of limpet's may cost by itself.
type limit struct {
	id    string
	group *regexp.Regexp
	impl  string // empty where there is none
	unit  string
	max   float64
	why   string
}

var limits = []limit{
	{"T4", re(`TableMemory-1`), "limpet", "B/entry", 180, "a million entries, keys and values included"},
	{"G2", re(`Country-1`), "", "×decode", 0.30, "the country of an address; the peer decodes the record each time"},
	{"L1", re(`Acquire/roundrobin/servers=100/.*-2`), "", "ns/op", 200, "a server of a hundred, taken and given back"},
	{"L1", re(`Acquire/(leastconnections|consistenthash)/servers=100/.*-2`), "", "ns/op", 400, "a server of a hundred, taken and given back"},
}

// renamed are benchmarks of the packages themselves, which are not named by
// impl: group and impl.
var renamed = map[string][2]string{
	"Listing":          {"Listing", "limpet"},
	"ListingNaive":     {"Listing", "naive"},
	"ListingUnlimited": {"Listing", "unlimited"},
	"Loops":            {"Loops", "limpet"},
	"LoopsUnlimited":   {"Loops", "unlimited"},
}
