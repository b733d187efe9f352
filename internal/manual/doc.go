// Package manual tests the documents of this module: every program and every
// piece of Go code in them compiles and runs, and every link leads somewhere.
// It has no code of its own. Configuration files are checked by the tests of
// package config, scripts by those of examples/recipes.
package manual
