// A module in which every rule is broken. It has the real module's path, so that the real tables are tested.
module github.com/limpetlb/limpet

go 1.25.0

require github.com/yuin/gopher-lua v1.1.2

replace github.com/yuin/gopher-lua => ./lua
