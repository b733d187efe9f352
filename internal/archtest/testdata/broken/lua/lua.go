// Package lua stands for the real one.
package lua

type LState struct{}

func (*LState) SetMx(int)                         {}
func (*LState) RaiseError(string, ...interface{}) {}
