package lua51

import (
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// A Library holds the names that scripts find predefined, such as "pairs",
// "string" or "string.find". It must not be changed once a script has been
// compiled with it.
type Library struct {
	symbols map[string]*Symbol
	words   map[string]lua.LValue // ready-made values of strings that are returned often
	lengths [256]uint16           // a bit for each length of the words that begin with a byte
}

// A Symbol is a predefined name.
type Symbol struct {
	Name   string         // the whole path
	Kind   Kind           // of what it stands for
	Text   string         // of a constant
	Num    float64        // of a numeric constant
	Object *lua.LUserData // of a token

	parent  *Symbol        // the table that holds it; nil for globals
	members []*Symbol      // of a table
	native  lua.LGFunction // of a function
	call    func(Call) int // what native wraps
	value   func(*Run) lua.LValue
	host    bool // see Entry
}

// A Kind says what a predefined name stands for.
type Kind uint8

// The kinds of predefined names.
const (
	Function Kind = iota // written in Go
	Constant             // a string
	Numeric              // a number
	Token                // a value that equals only itself
	Module               // a table, read-only to scripts
	Variable             // a value that each run has its own of
)

// Field returns the last part of the name.
func (s *Symbol) Field() string { return s.Name[strings.LastIndexByte(s.Name, '.')+1:] }

// An Entry declares a name of a module.
type Entry struct {
	Name string         // within the module; it may have several parts
	Kind Kind           // Function, if it is left out
	Call func(Call) int // of a function; it returns how many results it has pushed
	Text string         // of a constant
	Num  float64        // of a numeric constant
	// Value returns the value of a Variable.
	Value func(*Run) lua.LValue
	// Host is for functions that are not Lua's own: their errors always name
	// the position of the script, even if pcall has called them, and their own
	// name if the script has called them by none.
	Host bool
}

// NewLibrary returns Lua's own library, as far as it is harmless: nothing in
// it loads code or reaches environments or the host. print is missing as well,
// because the host has to say where lines go.
func NewLibrary() *Library {
	lib := &Library{symbols: map[string]*Symbol{}, words: map[string]lua.LValue{}}
	lib.Declare("", baseEntries)
	lib.Declare("", operatorEntries)
	lib.Declare("string", stringEntries)
	lib.Declare("table", tableEntries)
	lib.Declare("math", mathEntries)
	lib.Declare("os", osEntries)
	lib.Words("", "nil", "boolean", "number", "string", "function", "table", "true", "false")
	return lib
}

// copyableLibraries are Lua's own libraries, to which scripts may add
// functions of their own for the length of a transaction.
var copyableLibraries = map[string]bool{"string": true, "table": true, "math": true, "os": true}

// Declare adds entries to a module. An empty module stands for the global
// names. No name may be declared twice.
func (lib *Library) Declare(module string, entries []Entry) {
	for _, e := range entries {
		name := e.Name
		if module != "" {
			name = module + "." + name
		}
		s := &Symbol{Name: name, Kind: e.Kind, Text: e.Text, Num: e.Num, call: e.Call, value: e.Value, host: e.Host}
		switch {
		case e.Call != nil:
			s.native = s.invoker()
		case e.Kind == Token:
			s.Object = &lua.LUserData{Metatable: lua.LNil}
		}
		lib.add(s)
	}
}

// add enters a symbol, and the tables on its path.
func (lib *Library) add(s *Symbol) {
	if lib.symbols[s.Name] != nil {
		panic("lua51: " + s.Name + " declared twice")
	}
	lib.symbols[s.Name] = s
	i := strings.LastIndexByte(s.Name, '.')
	if i < 0 || s.Name == concatName {
		return
	}
	parent := lib.symbols[s.Name[:i]]
	if parent == nil {
		parent = &Symbol{Name: s.Name[:i], Kind: Module}
		lib.add(parent)
	}
	s.parent = parent
	parent.members = append(parent.members, s)
}

// Lookup returns the symbol of a path such as "string.find"; nil if there is
// none.
func (lib *Library) Lookup(path string) *Symbol { return lib.symbols[path] }

// Words has the values of short strings made beforehand, because making one
// allocates. Longer strings than maxWord are ignored.
func (lib *Library) Words(list ...string) {
	for _, w := range list {
		if len(w) <= maxWord {
			lib.words[w] = lua.LString(w)
			if w != "" {
				lib.lengths[w[0]] |= 1 << len(w)
			}
		}
	}
}

// letters are the ready-made values of strings of one byte.
var letters = func() (values [256]lua.LValue) {
	for i := range values {
		values[i] = lua.LString([]byte{byte(i)})
	}
	return values
}()

// maxWord is how long a ready-made string is at most.
const maxWord = 8

func (lib *Library) stringValue(s string) lua.LValue {
	if len(s) == 1 {
		return letters[s[0]]
	}
	if len(s) <= maxWord && (s == "" || lib.lengths[s[0]]>>len(s)&1 != 0) {
		if v, ok := lib.words[s]; ok {
			return v
		}
	}
	return lua.LString(s)
}
