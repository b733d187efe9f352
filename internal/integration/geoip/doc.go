// Package geoip tests ipgroup/geoip with databases of all kinds, which it
// makes. It also makes those that are committed elsewhere, for tests and
// examples of the library (see TestFiles). It has tests only.
package geoip
