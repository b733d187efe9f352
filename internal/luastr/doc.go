// Package luastr is Lua 5.1's string library as plain Go functions with hard
// limits.
//
// It knows nothing of a Lua interpreter: a binding converts arguments, calls a
// function here and turns its error into a Lua error. Results and error texts
// are those of the reference interpreter in the C locale; where they differ on
// purpose, the function's comment says "Unlike". No input makes a function
// panic, and none depends on the locale, the processor or the order of a map.
//
// # Limits
//
//   - Steps. Pattern matching takes steps from a budget that a caller may share
//     among all operations of a script run. It ends with [ErrSteps]; see
//     [DefaultSteps].
//   - Bytes. Whatever builds a string takes the largest length allowed and ends
//     with a [SizeError] before building more; see [DefaultMaxBytes].
//   - Time of the functions without a step budget (FindPlain, Lower, Rep,
//     ParseNumber and the like) is linear in their arguments and result, which
//     a caller limits.
//   - Depth and captures of a pattern are bounded by [MaxDepth] and
//     [MaxCaptures].
//
// Work is linear in the sizes of the arguments and the result, except for
// patterns that make the matcher go back and forth; those are what steps are
// for.
//
// # Patterns
//
// A [Matcher] is prepared once and then used for one kind of operation:
//
//	budget := luastr.DefaultSteps
//	var m luastr.Matcher
//	m.Init("key = value", "(%w+)%s*=%s*(%w+)", &budget)
//	start, end, err := m.Match(0)
//	if err == nil && start >= 0 {
//		key, _, _, _ := m.Capture(0)
//		…
//	}
package luastr
