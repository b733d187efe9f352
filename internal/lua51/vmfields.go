package lua51

import (
	"reflect"
	"slices"
	"strings"
	"unsafe"

	lua "github.com/yuin/gopher-lua"
)

// This file is about fields of the VM that have no accessors. If another
// version of the VM has others, vmMissing names those that are missing, and no
// script is compiled: without them the sandbox has holes.
//
//   - The VM forgets two things when it catches an error. It drops that an
//     outer error handler is set; the next error would then cut closures off
//     from the variables they share. And it leaves variables that closures have
//     captured in registers which other calls use next.
//   - A table does not report whether it ever had a key, which next must know,
//     nor how much it holds.
//   - Only the VM knows the instruction that comes next, and its operands.
var (
	hasErrorFunc = field[lua.LState]("hasErrorFunc", reflect.Bool)
	openUpvalues = field[lua.LState]("uvcache", reflect.Pointer)
	nextUpvalue  = field[lua.Upvalue]("next", reflect.Pointer)

	tableArray = field[lua.LTable]("array", reflect.Slice)
	tableKeys  = field[lua.LTable]("k2i", reflect.Map)
	tableList  = field[lua.LTable]("keys", reflect.Slice)
	tableWords = field[lua.LTable]("strdict", reflect.Map)

	currentFrame = mirror[lua.LState, vmFrame]("currentFrame")
	registry     = mirror[lua.LState, vmRegistry]("reg")

	vmMissing []string
)

// vmFrame is the beginning of the VM's frame of a call.
type vmFrame struct {
	Idx        int
	Fn         *lua.LFunction
	Parent     *vmFrame
	Pc         int
	Base       int
	LocalBase  int
	ReturnBase int
	NArgs      int
	NRet       int
	TailCall   int
}

// varargs is how many values "..." stands for in a function.
func (f *vmFrame) varargs() int { return max(f.NArgs-int(f.Fn.Proto.NumParameters), 0) }

// vmRegistry is the beginning of the VM's stack of values.
type vmRegistry struct {
	array []lua.LValue
	top   int
}

// field returns where a field of T is, if that has the kind that is expected.
func field[T any](name string, kind reflect.Kind) (offset uintptr) {
	f, ok := reflect.TypeFor[T]().FieldByName(name)
	if !ok || f.Type.Kind() != kind {
		vmMissing = append(vmMissing, reflect.TypeFor[T]().Name()+"."+name)
	}
	return f.Offset
}

// mirror is field for a pointer to a struct that begins like M.
func mirror[T, M any](name string) (offset uintptr) {
	offset = field[T](name, reflect.Pointer)
	f, ok := reflect.TypeFor[T]().FieldByName(name)
	if !ok || f.Type.Kind() != reflect.Pointer || f.Type.Elem().Kind() != reflect.Struct {
		return offset
	}
	for _, want := range reflect.VisibleFields(reflect.TypeFor[M]()) {
		got, ok := f.Type.Elem().FieldByName(want.Name)
		if !ok || got.Offset != want.Offset || got.Type.Kind() != want.Type.Kind() {
			vmMissing = append(vmMissing, reflect.TypeFor[T]().Name()+"."+name+"."+want.Name)
		}
	}
	return offset
}

// missingFields names the fields that this VM does not have.
func missingFields() string {
	return strings.Join(slices.Compact(slices.Clone(vmMissing)), ", ")
}

func inside[T any](base unsafe.Pointer, offset uintptr) *T { return (*T)(unsafe.Add(base, offset)) }

// frameOf returns where the VM has the frame of the function that runs.
func frameOf(L *lua.LState) **vmFrame { return inside[*vmFrame](unsafe.Pointer(L), currentFrame) }

// registryOf returns the VM's stack of values.
func registryOf(L *lua.LState) *vmRegistry {
	return *inside[*vmRegistry](unsafe.Pointer(L), registry)
}

// stackOf returns the values on the stack.
func stackOf(L *lua.LState) []lua.LValue {
	reg := registryOf(L)
	return reg.array[:min(reg.top, len(reg.array))]
}

func arrayOf(t *lua.LTable) []lua.LValue {
	return *inside[[]lua.LValue](unsafe.Pointer(t), tableArray)
}

// contents returns the array of a table and all other keys that it ever had.
func contents(t *lua.LTable) (array, keys []lua.LValue) {
	return arrayOf(t), *inside[[]lua.LValue](unsafe.Pointer(t), tableList)
}

// hasWords reports whether a table has room for keys that are strings.
func hasWords(t *lua.LTable) bool {
	return *inside[map[string]lua.LValue](unsafe.Pointer(t), tableWords) != nil
}

// everHad reports whether a table has, or had, a key: traversals may go on
// from an element that was removed.
func everHad(t *lua.LTable, key lua.LValue) bool {
	array := arrayOf(t)
	if n, ok := key.(lua.LNumber); ok && n >= 1 && n <= lua.LNumber(len(array)) && n == lua.LNumber(int(n)) {
		return true
	}
	_, ok := (*inside[map[lua.LValue]int](unsafe.Pointer(t), tableKeys))[key]
	return ok
}
