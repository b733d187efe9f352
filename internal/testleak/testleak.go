// Package testleak has what tests of leaks share beside [go.uber.org/goleak].
package testleak

import "os"

// RedisClient is the function that goleak must ignore in programs with a client
// of Redis: after it has looked for changes of a cluster, a goroutine waits for
// up to a second before it may look again, even when the client is closed.
const RedisClient = "github.com/redis/rueidis.(*call).DelayDo.func1"

// Descriptors returns how many file descriptors the process has open. It fails
// where the system does not show them in /proc/self/fd, as Linux does.
func Descriptors() (int, error) {
	entries, err := os.ReadDir("/proc/self/fd")
	return len(entries), err
}
