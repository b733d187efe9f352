// Package persistence is explained again.
package persistence
