// Command hidden shows what its readers cannot do.
package main

import (
	_ "github.com/limpetlb/limpet"
	_ "github.com/limpetlb/limpet/internal/upward"
)

func main() {}
