package config

import (
	"bytes"
	_ "embed"
)

//go:generate go test -run ^(TestSchema|TestReference)$ -count=1 -update

//go:embed limpet.schema.json
var schema []byte

// Schema returns a JSON Schema (2020-12) of a configuration, for editors and
// other tools. It says which keys there are, what kind of value each has, and
// which constants. [Parse] finds more, such as names of objects that do not
// exist.
func Schema() []byte { return bytes.Clone(schema) }
