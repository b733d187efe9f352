//go:build !unix

package accept

// IsExhausted reports whether a connection could not be made for lack of file
// descriptors, memory or local ports, where the system reports them.
func IsExhausted(error) bool { return false }

func fileLimit() uint64 { return 0 }
