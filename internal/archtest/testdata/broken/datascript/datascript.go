// Package datascript uses Lua in forbidden ways.
package datascript

import (
	"errors"

	lua "github.com/yuin/gopher-lua"
)

const constant = "constant format"

func run(l *lua.LState, err error) {
	l.SetMx(1)
	l.RaiseError(err.Error())
	l.RaiseError(constant)
	l.RaiseError("%v", err)
	f := (*lua.LState).SetMx
	f(l, 2)
	wrapped{l}.RaiseError(err.Error())

	//archtest:allow setmx in a process of its own
	l.SetMx(3)
	l.SetMx(4) //archtest:allow raiseerror is another rule
	l.SetMx(5) //archtest:allow setmx
}

type wrapped struct{ *lua.LState }

var _ = errors.New
