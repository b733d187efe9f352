package policy

import (
	"bytes"
	"slices"
)

// stringTrie finds the keys that a subject equals, begins with or contains, in
// time linear in the subject for any number of keys. It is the automaton of Aho
// and Corasick: a trie of the keys in which every node has a link to the node
// of the longest proper suffix of its text that is in the trie. The search
// continues there if no child matches.
//
// Nodes are numbered in breadth-first order, so the children of a node are
// adjacent, and so are the bytes that lead to them: bytes.IndexByte on a few
// bytes finds a child.
type stringTrie struct {
	nodes  []trieNode
	labels []byte // labels[n] leads to node n
}

type trieNode struct {
	first, end int32 // children
	suffix     int32 // where the search goes on; the root's is the root
	key        int32 // the key that ends here, or -1
	best       int32 // the best of the keys that end here or at a suffix, or -1
}

// newStringTrie builds the trie of keys, none of them empty. The order says
// which key is better if several match; of equal keys only the better one is
// kept.
func newStringTrie(keys [][]byte, better func(a, b int32) bool) *stringTrie {
	t := &stringTrie{nodes: []trieNode{{key: -1, best: -1}}, labels: []byte{0}}
	order := make([]int32, len(keys))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int { return bytes.Compare(keys[a], keys[b]) })
	// Each node is a run of the sorted keys with a common prefix.
	type run struct{ begin, end, depth int }
	runs := []run{{0, len(keys), 0}}
	for n := 0; n < len(runs); n++ {
		r := runs[n]
		t.nodes[n].first = int32(len(t.nodes))
		for i := r.begin; i < r.end; {
			key := order[i]
			if len(keys[key]) == r.depth {
				if old := t.nodes[n].key; old < 0 || better(key, old) {
					t.nodes[n].key = key
				}
				i++
				continue
			}
			label, begin := keys[key][r.depth], i
			for i < r.end && keys[order[i]][r.depth] == label {
				i++
			}
			runs = append(runs, run{begin, i, r.depth + 1})
			t.nodes = append(t.nodes, trieNode{key: -1, best: -1})
			t.labels = append(t.labels, label)
		}
		t.nodes[n].end = int32(len(t.nodes))
	}
	t.link(better)
	return t
}

// link sets suffix and best. The suffix of a node is shorter than the node,
// so it comes before it.
func (t *stringTrie) link(better func(a, b int32) bool) {
	for n := range t.nodes {
		node := &t.nodes[n]
		node.best = node.key
		if n > 0 {
			if b := t.nodes[node.suffix].best; node.best < 0 || b >= 0 && better(b, node.best) {
				node.best = b
			}
		}
		for child := node.first; child < node.end; child++ {
			if n > 0 {
				t.nodes[child].suffix = t.step(node.suffix, t.labels[child])
			}
		}
	}
}

// child returns the child of a node for a byte, or -1.
func (t *stringTrie) child(n int32, c byte) int32 {
	node := &t.nodes[n]
	if i := bytes.IndexByte(t.labels[node.first:node.end], c); i >= 0 {
		return node.first + int32(i)
	}
	return -1
}

// step returns the longest suffix of a node's text and a byte that is in the
// trie.
func (t *stringTrie) step(n int32, c byte) int32 {
	for {
		if child := t.child(n, c); child >= 0 {
			return child
		}
		if n == 0 {
			return 0
		}
		n = t.nodes[n].suffix
	}
}

// equal returns the key that equals the subject, or -1.
func (t *stringTrie) equal(subject []byte) int32 {
	n := int32(0)
	for _, c := range subject {
		if n = t.child(n, c); n < 0 {
			return -1
		}
	}
	return t.nodes[n].key
}

// prefix returns the best key that the subject begins with, or -1.
func (t *stringTrie) prefix(subject []byte, better func(a, b int32) bool) int32 {
	best, n := int32(-1), int32(0)
	for _, c := range subject {
		if n = t.child(n, c); n < 0 {
			break
		}
		if key := t.nodes[n].key; key >= 0 && (best < 0 || better(key, best)) {
			best = key
		}
	}
	return best
}

// within returns the best key that the subject contains, or -1.
func (t *stringTrie) within(subject []byte, better func(a, b int32) bool) int32 {
	best, n := int32(-1), int32(0)
	for _, c := range subject {
		n = t.step(n, c)
		if key := t.nodes[n].best; key >= 0 && key != best && (best < 0 || better(key, best)) {
			best = key
		}
	}
	return best
}

// suffix is prefix for a trie of reversed keys: it returns the best key that
// the subject ends with, or -1.
func (t *stringTrie) suffix(subject []byte, better func(a, b int32) bool) int32 {
	best, n := int32(-1), int32(0)
	for _, c := range slices.Backward(subject) {
		if n = t.child(n, c); n < 0 {
			break
		}
		if key := t.nodes[n].key; key >= 0 && (best < 0 || better(key, best)) {
			best = key
		}
	}
	return best
}
