package datascript

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	lua "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/ast"
	"github.com/yuin/gopher-lua/parse"

	"github.com/limpetlb/limpet/internal/luasyntax"
)

// A Chunk is the source of a script for one event.
type Chunk struct {
	// Event is when the chunk runs. Zero means that Source is a listing:
	// the scripts of several events in one text, each below a heading that
	// is a comment line of its own, such as "-- HTTP Request Event --",
	// "-- HTTP_REQ" or "-- HTTP_RESPONSE".
	Event Event
	// Source is Lua 5.1. At most 64 KiB.
	Source string
	// Line is the number of the first line of Source, for messages; zero
	// means 1. At most a million.
	Line int
}

// A Script is a compiled DataScript: a name and the code for one or more
// events. It is immutable and may be used by any number of engines and
// goroutines.
type Script struct {
	name     string
	chunks   [numEvents]*program
	globals  *globals
	warnings []Warning
	mode     mode // see weigh.go
}

// A program is the compiled code of one event. The prototype is that of a
// function which takes the values of imports and returns the event's
// function, whose only parameter is the table of globals; see rewrite.go.
type program struct {
	proto   *lua.FunctionProto
	imports []*symbol
}

// Compile compiles a script. Its name appears in log lines and error texts.
// The chunks' events must differ; a single chunk without an event is taken
// for a listing. The error is a [*CompileError] that reports the first fault
// found.
//
// Names of pools and groups are not checked here, since a Script is not bound
// to a virtual service.
func Compile(name string, chunks ...Chunk) (*Script, error) {
	if fault := vmFault(); fault != "" {
		return nil, &CompileError{Script: name, Message: fault}
	}
	if len(chunks) == 0 {
		return nil, &CompileError{Script: name, Message: "no source"}
	}
	s := &Script{name: name}
	if len(chunks) == 1 && chunks[0].Event == 0 {
		parts, near, err := splitListing(name, chunks[0].Source, max(chunks[0].Line, 1))
		if err != nil {
			return nil, err
		}
		chunks, s.warnings = parts, near
	} else {
		for _, c := range chunks {
			s.warnings = append(s.warnings, strayHeadings(c)...)
		}
	}

	parsed := make([][]ast.Stmt, len(chunks))
	for i, c := range chunks {
		if c.Event >= numEvents || c.Event == 0 {
			return nil, &CompileError{Script: name, Line: c.Line, Message: fmt.Sprintf("chunk %d: invalid event %d", i, uint8(c.Event))}
		}
		if j := slicesIndexEvent(chunks[:i], c.Event); j >= 0 {
			return nil, &CompileError{Script: name, Event: c.Event, Message: fmt.Sprintf("chunks %d and %d are for the same event", j, i)}
		}
		stmts, err := parseChunk(name, c)
		if err != nil {
			return nil, err
		}
		parsed[i] = stmts
	}
	globals, fault := findGlobals(parsed)
	if fault != nil {
		fault.Script = name
		return nil, fault
	}
	s.globals = globals
	for i, c := range chunks {
		p, err := s.generate(c.Event, parsed[i])
		if err != nil {
			return nil, err
		}
		s.chunks[c.Event] = p
		if slices.ContainsFunc(p.proto.FunctionPrototypes, needsLong) {
			s.mode = longMode
		}
	}
	slices.SortStableFunc(s.warnings, func(a, b Warning) int {
		return cmp.Or(cmp.Compare(a.Event, b.Event), cmp.Compare(a.Line, b.Line))
	})
	return s, nil
}

func slicesIndexEvent(chunks []Chunk, ev Event) int {
	for i, c := range chunks {
		if c.Event == ev {
			return i
		}
	}
	return -1
}

// Name returns the name given to [Compile].
func (s *Script) Name() string { return s.name }

// Handles reports whether the script has code for an event.
func (s *Script) Handles(ev Event) bool {
	return ev < numEvents && s.chunks[ev] != nil
}

// Lines returns the numbers of the lines that hold code for an event, in order
// and each once: those that [Env].Trace can report. A line with nothing but
// "end", "else" or "break" holds none. Lines returns nil if the script has
// nothing for the event.
func (s *Script) Lines(ev Event) []int {
	if !s.Handles(ev) {
		return nil
	}
	lines := map[int]bool{}
	for _, main := range s.chunks[ev].proto.FunctionPrototypes {
		addLines(main, lines)
	}
	return slices.Sorted(maps.Keys(lines))
}

func addLines(p *lua.FunctionProto, lines map[int]bool) {
	for pc, inst := range p.Code {
		if isCode(p, pc, inst) {
			lines[place(p.DbgSourcePositions[pc]).line()] = true
		}
	}
	for _, inner := range p.FunctionPrototypes {
		addLines(inner, lines)
	}
}

// isCode leaves out the instructions that the compiler adds at the end of
// blocks and functions, which would make code of the word "end".
func isCode(p *lua.FunctionProto, pc int, inst uint32) bool {
	switch int(inst >> 26) {
	case lua.OP_JMP, lua.OP_CLOSE, lua.OP_NOP:
		return false
	case lua.OP_RETURN:
		return pc != len(p.Code)-1
	}
	return true
}

// chunkName is what Lua calls the source in messages, whatever the event.
func chunkName(script string) string { return `[string "` + script + `"]` }

// syntaxLimits are Lua's own, but for one that is the VM's: it takes quadratic
// time over the constants of a function. The VM has fewer registers, too, but
// how many a function takes its compiler knows best.
var syntaxLimits = luasyntax.Limits{Constants: 4096}

// tooManyRegisters is what the VM's compiler should say.
const tooManyRegisters = "a function uses more than the 200 registers that this implementation has, for local variables and intermediate results"

// parseChunk checks the syntax with Lua 5.1's own messages, and within its
// own limits of nesting, before the VM's parser sees the source.
func parseChunk(name string, c Chunk) ([]ast.Stmt, error) {
	line := max(c.Line, 1)
	if line > 1_000_000 {
		return nil, &CompileError{Script: name, Event: c.Event, Line: line, Message: "number of the first line is over a million"}
	}
	if err := luasyntax.Check(c.Source, line, syntaxLimits); err != nil {
		ce := &CompileError{Script: name, Event: c.Event, Line: line, Message: err.Error()}
		var se *luasyntax.Error
		if errors.As(err, &se) {
			ce.Line, ce.Token, ce.Message = se.Line, se.Near, se.Message
		}
		return nil, ce
	}
	// Leading newlines give the VM the listing's own line numbers.
	source := strings.Repeat("\n", line-1) + respell(c.Source)
	stmts, err := parse.Parse(strings.NewReader(source), chunkName(name))
	if err != nil {
		ce := &CompileError{Script: name, Event: c.Event, Line: line, Message: "not supported: " + err.Error()}
		var pe *parse.Error
		if errors.As(err, &pe) {
			ce.Line, ce.Token, ce.Message = pe.Pos.Line, pe.Token, "not supported by this implementation"
		}
		return nil, ce
	}
	return stmts, nil
}

// generate rewrites and compiles the statements of one event.
func (s *Script) generate(ev Event, stmts []ast.Stmt) (*program, error) {
	body, w, fault := rewrite(ev, stmts, s.globals)
	if fault != nil {
		fault.Script, fault.Event = s.name, ev
		return nil, fault
	}
	proto, err := lua.Compile(body, chunkName(s.name))
	if err != nil {
		ce := &CompileError{Script: s.name, Event: ev, Message: err.Error()}
		var le *lua.CompileError
		if errors.As(err, &le) {
			ce.Line, ce.Message = place(le.Line).line(), le.Message
			if strings.Contains(le.Message, "too many local variables") {
				ce.Message = tooManyRegisters
			}
		}
		return nil, ce
	}
	mendConstructors(proto)
	plan(proto)
	(&origin{sites: w.sites, script: s, event: ev}).attach(proto)
	s.warnings = append(s.warnings, w.warnings...)
	return &program{proto: proto, imports: w.imports}, nil
}

const noOperation = uint32(lua.OP_NOP << 26)

// storesField reports whether an instruction stores a field of the table in a
// register.
func storesField(inst uint32, table int) bool {
	op := int(inst >> 26)
	return (op == lua.OP_SETTABLE || op == lua.OP_SETTABLEKS) && argA(inst) == table
}

// mendConstructors corrects the code of table constructors. The VM stores their
// elements in blocks of 50, which it numbers, and its compiler makes three
// mistakes: if a block ends where a field with a key follows, it is stored
// again, from registers that hold other values by then; if a block ends where
// the last element follows that can have several values, these get the number
// of the block before; and numbers from 512 on, which stand in the word behind
// the instruction, are zeros.
func mendConstructors(p *lua.FunctionProto) {
	var last [256]uint32 // block that was stored, by register of the table
	for pc := 0; pc < len(p.Code); pc++ {
		inst := p.Code[pc]
		switch int(inst >> 26) {
		case lua.OP_NEWTABLE:
			last[argA(inst)] = 0
		case lua.OP_SETLIST:
			block := &last[argA(inst)]
			switch number := uint32(argC(inst)); {
			case number == 0:
				pc++
				if storesField(p.Code[pc-2], argA(inst)) && argB(inst) == 50 {
					p.Code[pc-1], p.Code[pc] = noOperation, noOperation
					continue
				}
				*block++
				p.Code[pc] = *block
			case number != *block:
				*block = number
			case argB(inst) == 0:
				*block++
				p.Code[pc] = inst&^(0x1ff<<9) | *block<<9
			default:
				p.Code[pc] = noOperation
			}
		}
	}
	for _, inner := range p.FunctionPrototypes {
		mendConstructors(inner)
	}
}
