// Package assurance checks documents that state guarantees and name the tests
// that prove them.
//
// Such a document is Markdown with one table under each heading of level two,
// its groups:
//
//	## Sandbox
//
//	| Id | Guarantee | Figure | Tests |
//	|---|---|---|---|
//	| loops | A loop without an end is stopped | 50 ms | `datascript.TestHostile`, `datascript.TestBudgets/loop` |
//	| fuzz | A day of fuzzing finds nothing | 24 h | open: it takes a machine of its own |
//
// The first cell is unique in the document. The second is the guarantee, in the
// words of a user, and the third is its figure, or a note, which begins with
// "differs: " if it says how limpet does the thing in another way. The last one
// names the tests: package, relative to the module, name, and, if need be,
// subtest. The root package is called limpet. A row whose tests do not exist
// yet is open, and says why.
//
// [Parse] reads a document, and [Tree.Check] looks for its tests in the
// sources: whether each exists, and whether anything lets it be skipped every
// time.
package assurance
