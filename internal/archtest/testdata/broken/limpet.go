// Package limpet imports what the root may import.
package limpet

import _ "github.com/limpetlb/limpet/lbpool"
