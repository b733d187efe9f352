package limpet

// Config returns the configuration in force.
func (vs *VirtualService) Config() Config { return vs.current.Load().Config }
