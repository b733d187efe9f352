//go:build race

package transparency

import "time"

// full is less than without the race detector, which slows everything down.
var full = effort{15 * time.Second, 16 << 20, 400}
