// A module in which every rule is broken. It has the real module's path, so that the real tables are tested.
module github.com/limpetlb/limpet

go 1.25.0

require golang.org/x/net v0.0.0

replace golang.org/x/net => ./net
