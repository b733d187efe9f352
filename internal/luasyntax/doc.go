// Package luasyntax checks the syntax of Lua 5.1 source, with the verdict, the
// line and the words of luac, the compiler of PUC Lua 5.1.
//
// It stands before a virtual machine that is lax about the language and vague
// about faults:
//
//	if err := luasyntax.Check(source, 1, luasyntax.Limits{}); err != nil {
//		return fmt.Errorf("luac: %s:%w", file, err) // luac: a.lua:4: 'end' expected near '<eof>'
//	}
//
// # What it agrees on with luac
//
// It agrees on all faults of syntax, and on the limits of nesting, local
// variables and upvalues. "goto" is a name
// and "::" is no token. Strings and comments may contain any bytes. The
// peculiarities of luac 5.1 as it is built by default are kept, among them:
//
//   - "[[" inside a "[[" string or comment is refused as deprecated nesting;
//   - the parameter "..." declares a local variable "arg";
//   - "0x1p4" is a number, because C's strtod reads it;
//   - a zero byte counts as a point behind ".", as a part of a number behind
//     one, and as a token without a name elsewhere.
//
// # Where it differs
//
//   - The source is text given as a string. As with Lua's loadstring, a first
//     line that starts with "#" is not skipped; only a file's would be.
//   - Compiled code is not loaded: an escape byte at the start is an
//     unexpected symbol.
//   - "constant table overflow" and "too many local variables", which a source
//     of the default size cannot reach, come with a line here.
//   - Functions that need more registers than Lua has are not refused
//     ("function or expression too complex"): a virtual machine has to do that,
//     which may have another number of them.
//   - Jumps over more than 131071 instructions are not refused ("control
//     structure too long"). Only a loop or branch of some 50 KiB made of little
//     but comparisons has them.
//
// # What it does not bound
//
// Lua 5.1 counts what nests, not what follows. "a+a+a", "f()()()", "a.b.c" and
// "elseif" may go on to the end of the source, and a compiler that builds a
// tree nests them as deep. It may also take quadratic time for them, or for
// many constants; [Limits].Constants bounds the latter.
package luasyntax
