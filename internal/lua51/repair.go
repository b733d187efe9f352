package lua51

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	lua "github.com/yuin/gopher-lua"
)

// A repair is about one fault of gopher-lua: its file does what makes scripts
// run as in Lua 5.1 all the same. A repair fits the fault as it is. So before
// the first script is compiled, the VM has to show each of them; if it does
// not, it is a version that is not known here, and no script is compiled.
type repair struct {
	file    string // that has it
	fault   string // what the VM does
	program string // that shows the fault
	wrong   string // what the program prints in the VM by itself: lines, joined by "; ", with a blank between values
	right   string // what it prints in Lua 5.1
}

var repairs = []*repair{
	&assignmentRepair, &upvalueRepair, &choiceRepair, &singleCallRepair, &singleVarargRepair, &localFunctionRepair, &genericForRepair, &loopRepair, &boundsRepair,
	&constructorsRepair, &blocksRepair, &keyedBlocksRepair,
	&numeralsRepair, &stringsRepair, &gotoRepair, &exponentRepair, &lengthRepair, &moduloRepair, &metamethodsRepair,
	&handlersRepair, &capturedRepair, &farRepair, &errorTextsRepair,
}

// Fault says why this VM cannot run scripts; it is nil if all is well.
func Fault() error { return fault() }

var fault = sync.OnceValue(func() error { return faultOf(repairs) })

func faultOf(repairs []*repair) error {
	const unsupported = "this version of github.com/yuin/gopher-lua is not supported: "
	if missing := missingFields(); missing != "" {
		return errors.New(unsupported + "it has no " + missing)
	}
	for _, r := range repairs {
		if got := stock(r.program); got != r.wrong {
			return fmt.Errorf(unsupported+"%s repairs a fault that this version has not: %q prints %q, not %q", r.file, r.program, got, r.wrong)
		}
	}
	return nil
}

// stockInstructions is how long a program of a repair may run.
const stockInstructions = 10_000

// A countdown stops the VM after some instructions.
type countdown struct {
	context.Context
	left int
}

func (c *countdown) Done() <-chan struct{} {
	if c.left--; c.left > 0 {
		return nil
	}
	return closed
}

func (c *countdown) Err() error { return errors.New("endless") }

// stock returns what a program prints in the VM by itself.
func stock(program string) string {
	L := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer L.Close()
	L.Push(L.NewFunction(lua.OpenBase))
	L.Call(0, 0)
	var printed []string
	L.SetGlobal("print", L.NewFunction(func(L *lua.LState) int {
		values := make([]string, L.GetTop())
		for i := range values {
			values[i] = L.Get(i + 1).String()
		}
		printed = append(printed, strings.Join(values, " "))
		return 0
	}))
	count := &countdown{context.Background(), stockInstructions}
	L.SetContext(count)
	err := L.DoString(program)
	switch {
	case count.left <= 0:
		return "(endless)"
	case err != nil:
		text, _, _ := strings.Cut(strings.TrimSpace(err.Error()), "\n")
		printed = append(printed, "error: "+strings.TrimSpace(text[strings.LastIndex(text, ": ")+1:]))
	}
	return strings.Join(printed, "; ")
}
