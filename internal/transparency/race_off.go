//go:build !race

package transparency

import "time"

var full = effort{15 * time.Second, 1 << 30, 10_000}
