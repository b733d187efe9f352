// Package archtest keeps the architecture of the module as data and checks the source tree against it.
//
// There are four groups of checks, one file each:
//
//   - imports.go: which package may import which, and how many modules the library depends on.
//   - docs.go: one package comment for each package, a doc comment for each exported name, an Example for each public package.
//   - uses.go: names that must not be used, such as http.DefaultTransport.
//   - surface.go: the exported names of each public package equal the list in the directory surface.
//
// A check is a function from a loaded [Module] to [Finding] values, so that each is tested on a small module made to
// break it (testdata/broken) as well as run on this one.
//
// The tables are meant to be edited: a new package or dependency is a new row with its reason, reviewed with the change
// that needs it.
package archtest
