// Package upward imports a public package.
package upward

import _ "github.com/limpetlb/limpet/policy"
