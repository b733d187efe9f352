//go:build !unix

package limpet

func isExhausted(error) bool { return false }

func fileLimit() uint64 { return 0 }
