// Package util is not on the map.
package util
