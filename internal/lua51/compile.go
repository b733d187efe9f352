package lua51

import (
	"errors"
	"slices"
	"strings"

	lua "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/ast"
	"github.com/yuin/gopher-lua/parse"

	"github.com/limpetlb/limpet/internal/luasyntax"
)

// A Source is a piece of Lua 5.1.
type Source struct {
	Text string // at most 64 KiB
	Line int    // of its first line, for messages: 1 to 1,000,000
	Tag  any    // what the caller knows it by; see [Config].Trace and [Inspector]
}

// A Tree is what [Parse] makes of a source.
type Tree struct {
	name  string
	stmts []ast.Stmt
	tag   any
}

// A Script is one or more programs that share their global variables. It is
// immutable and may be used by any number of goroutines, and of engines that
// have its library.
type Script struct {
	name     string
	programs []*Program
	globals  *globals
	mode     mode // see weigh.go
}

// Programs returns the compiled trees, in the order in which [Compile] was
// given them. The slice must not be changed.
func (s *Script) Programs() []*Program { return s.programs }

// A Program is the compiled code of one source. The prototype is that of a
// function which takes the values of imports and returns the program's
// function, whose only parameter is the table of globals; see rewrite.go.
type Program struct {
	script  *Script
	number  int // within the script
	tag     any
	proto   *lua.FunctionProto
	imports []*Symbol
}

// A CompileError reports the first fault of a source.
type CompileError struct {
	Tree    int    // which tree has it, counted from 0; -1 if it is in none of them
	Line    int    // 0 if the fault has no line
	Token   string // the text at which the compiler stopped; may be empty
	Message string // what is wrong, without the token
}

// Error returns the message, without the position.
func (e *CompileError) Error() string { return e.Message }

// ChunkName is what Lua calls a source in messages.
func ChunkName(script string) string { return `[string "` + script + `"]` }

// syntaxLimits are Lua's own, but for one that is the VM's: it takes quadratic
// time over the constants of a function. The VM has fewer registers, too, but
// how many a function takes its compiler knows best.
var syntaxLimits = luasyntax.Limits{Constants: 4096}

// tooManyRegisters is what the VM's compiler should say.
const tooManyRegisters = "a function uses more than the 200 registers that this implementation has, for local variables and intermediate results"

// Parse checks the syntax with Lua 5.1's own messages, and within its own
// limits of nesting, before the VM's parser sees the source. Errors are of type
// [*CompileError], of tree 0.
func Parse(name string, src Source) (*Tree, error) {
	if src.Line > 1_000_000 {
		return nil, &CompileError{Line: src.Line, Message: "number of the first line is over a million"}
	}
	line := max(src.Line, 1)
	if err := luasyntax.Check(src.Text, line, syntaxLimits); err != nil {
		ce := &CompileError{Line: line, Message: err.Error()}
		if se, ok := errors.AsType[*luasyntax.Error](err); ok {
			ce.Line, ce.Token, ce.Message = se.Line, se.Near, se.Message
		}
		return nil, ce
	}
	// Leading newlines give the VM the listing's own line numbers.
	source := strings.Repeat("\n", line-1) + respell(src.Text)
	stmts, err := parse.Parse(strings.NewReader(source), ChunkName(name))
	if err != nil {
		ce := &CompileError{Line: line, Message: "not supported: " + err.Error()}
		if pe, ok := errors.AsType[*parse.Error](err); ok {
			ce.Line, ce.Token, ce.Message = pe.Pos.Line, pe.Token, "not supported by this implementation"
		}
		return nil, ce
	}
	return &Tree{name, stmts, src.Tag}, nil
}

// A compiler has what all walks through a script need.
type compiler struct {
	library   *Library
	inspector Inspector
}

// Compile compiles trees, which it uses up, to a script: in all of them a
// global variable is the same. The inspector, which may be nil, looks at them
// meanwhile. Errors are of type [*CompileError].
func Compile(name string, library *Library, inspector Inspector, trees ...*Tree) (*Script, error) {
	if err := Fault(); err != nil {
		return nil, &CompileError{Tree: -1, Message: err.Error()}
	}
	if inspector == nil {
		inspector = indifferent{}
	}
	c := &compiler{library, inspector}
	globals, fault := c.findGlobals(trees)
	if fault != nil {
		fault.Tree = -1
		return nil, fault
	}
	s := &Script{name: name, globals: globals}
	for i, t := range trees {
		p, fault := c.generate(s, t)
		if fault != nil {
			fault.Tree = i
			return nil, fault
		}
		s.programs = append(s.programs, p)
		if slices.ContainsFunc(p.proto.FunctionPrototypes, needsLong) {
			s.mode = longMode
		}
	}
	return s, nil
}

// generate rewrites and compiles the statements of one tree.
func (c *compiler) generate(s *Script, t *Tree) (*Program, *CompileError) {
	body, w, fault := c.rewrite(t, s.globals)
	if fault != nil {
		return nil, fault
	}
	proto, err := lua.Compile(body, ChunkName(t.name))
	if err != nil {
		ce := &CompileError{Message: err.Error()}
		if le, ok := errors.AsType[*lua.CompileError](err); ok {
			ce.Line, ce.Message = position(le.Line).line(), le.Message
			if strings.Contains(le.Message, "too many local variables") {
				ce.Message = tooManyRegisters
			}
		}
		return nil, ce
	}
	fixConstructors(proto)
	for _, main := range proto.FunctionPrototypes {
		foldKeys(main)
	}
	plan(proto, 0)
	p := &Program{script: s, number: len(s.programs), tag: t.tag, proto: proto, imports: w.imports}
	(&origin{sites: w.sites, program: p}).attach(proto)
	return p, nil
}
