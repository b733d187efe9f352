// Package lua51 runs scripts in Lua 5.1 with budgets. It is the interpreter
// alone, with Lua's own functions. The host declares further functions in a
// [Library].
//
//	lib := lua51.NewLibrary()
//	lib.Declare("host", []lua51.Entry{{Name: "name", Call: func(c lua51.Call) int { return c.RetString("h1") }}})
//	engine := lua51.NewEngine(lua51.Config{Library: lib, Busy: errBusy})
//	tree, err := lua51.Parse("x", lua51.Source{Text: "name = host.name()"})
//	...
//	script, err := lua51.Compile("x", lib, nil, tree)
//	...
//	var vars lua51.Variables
//	state := engine.NewState()
//	err = engine.Gate().Enter(ctx, vars.Held())
//	...
//	outcome := state.Run(ctx, script.Programs()[0], &vars, nil)
//	state.Leave()
//
// The virtual machine is gopher-lua. Scripts are compiled to run in it as in
// Lua 5.1, with Lua's words for errors: the files repair_*.go are about one
// fault of gopher-lua each, and docs/lua.md lists them. Before the first
// script is compiled, [Fault] checks that the machine has these faults.
//
// # Budgets
//
// The machine asks the context of a run before each instruction, and the
// context counts: instructions by what they do, bytes that are made, time. An
// [Engine] bounds what all runs hold together; its [Gate] lets scripts in.
// Functions of the host pay for their work ([Call.Spend], [Call.Read],
// [Call.Hold]), and say when they wait for something else ([Call.Outside]).
//
// # Isolation
//
// There is no global environment. A global variable is a slot in a table of
// one transaction and one script ([Variables]), libraries are read-only, and
// nothing that loads code or reaches the host exists.
package lua51
