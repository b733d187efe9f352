// Package archtest keeps the architecture of the module as data and checks the
// source tree against it.
//
// It has what linters (.golangci.yml) cannot check, one file each:
//
//   - imports.go: which package may import which.
//   - docs.go: a doc comment for each exported name that is a field or stands
//     in a group.
//   - sleep.go: tests wait in virtual time only.
//   - width.go: comments have one width.
//   - surface.go: the exported names of each public package equal the list in
//     the directory surface, so that a change of them is seen.
//
// A check is a function from a loaded [Module] to [Finding] values, so that
// each is tested on a small module made to break it (testdata/broken) as well
// as run on this one.
//
// The tables are meant to be edited: a new package or dependency is a new row
// with its reason, reviewed with the change that needs it.
package archtest
