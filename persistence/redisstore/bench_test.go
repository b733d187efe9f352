package redisstore

import (
	"testing"
	"time"

	"github.com/limpetlb/limpet/internal/redistest"
)

func BenchmarkLookup(b *testing.B) {
	server := redistest.Start(b)
	s := open(b, server, Config{})
	ctx := b.Context()
	s.Put(ctx, "", "198.51.100.7", "10.0.0.1:8080", 24*time.Hour)
	for _, bb := range []struct {
		name   string
		extend time.Duration
	}{{"near", 0}, {"server", time.Second}} {
		b.Run(bb.name, func(b *testing.B) {
			s.Lookup(ctx, "", "198.51.100.7", 0)
			b.ReportAllocs()
			for b.Loop() {
				s.Lookup(ctx, "", "198.51.100.7", bb.extend)
			}
		})
		b.Run(bb.name+" in parallel", func(b *testing.B) {
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					s.Lookup(ctx, "", "198.51.100.7", bb.extend)
				}
			})
		})
	}
}
