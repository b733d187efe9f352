package main

import _ "github.com/limpetlb/limpet/internal/upward"

func main() {}

var Exported, Variable int
