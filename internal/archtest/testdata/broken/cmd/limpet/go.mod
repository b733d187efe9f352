module github.com/limpetlb/limpet/cmd/limpet

go 1.25.0
