// Package limpet has no Example and imports what the root may import.
package limpet

import _ "github.com/limpetlb/limpet/lbpool"
