module github.com/limpetlb/limpet/metrics

go 1.26.0

require github.com/limpetlb/limpet v0.0.0
