package datascript

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/limpetlb/limpet/internal/testrace"
)

func unpadNaive(b []byte, size int) ([]byte, bool) {
	n := int(b[len(b)-1])
	if n == 0 || n > size {
		return nil, false
	}
	text, end := b[:len(b)-n], b[len(b)-n:]
	for _, c := range end {
		if int(c) != n {
			return nil, false
		}
	}
	return text, true
}

func TestUnpad(t *testing.T) {
	rng := rand.New(rand.NewPCG(43, 43))
	good := 0
	for range 100_000 {
		size := []int{8, 16}[rng.IntN(2)]
		b := make([]byte, size*(1+rng.IntN(3)))
		for i := range b {
			b[i] = byte(rng.IntN(256))
		}
		if n := rng.IntN(size + 3); n > 0 { // as many equal bytes, of that value or one like it
			copy(b[len(b)-min(n, len(b)):], bytes.Repeat([]byte{byte(n + rng.IntN(8)/7)}, min(n, len(b))))
		}
		want, wantOK := unpadNaive(b, size)
		got, ok := unpad(b, size)
		if ok != wantOK || ok && !bytes.Equal(got, want) {
			t.Fatalf("%x: %x, %v, want %x, %v", b, got, ok, want, wantOK)
		}
		if ok {
			good++
		}
	}
	if good < 1000 {
		t.Errorf("only %d paddings were right", good)
	}
}

// Whoever may try paddings learns nothing from the time that a refusal takes:
// not whether the last byte was out of range, or where the others differ.
// Welch's test compares kinds of wrong paddings, tried in random order. A
// comparison that ends early fails it.
func TestUnpadTime(t *testing.T) {
	if testrace.Enabled {
		return // which measures itself
	}
	kinds := [][]byte{ // the last block
		append(bytes.Repeat([]byte{1}, 15), 0),
		append(bytes.Repeat([]byte{1}, 15), 17),
		append([]byte{1}, bytes.Repeat([]byte{16}, 15)...), // wrong at the very end
		append(bytes.Repeat([]byte{1}, 15), 16),            // at once
	}
	for i, b := range kinds {
		if _, ok := unpad(b, 16); ok {
			t.Fatalf("padding %d is right", i)
		}
	}
	const tries, batch, enough = 1_000_000, 16, 4.5
	worst := func(unpad func([]byte, int) ([]byte, bool)) (worst float64) {
		for i := range kinds {
			for j := range i {
				worst = max(worst, math.Abs(welch(unpad, kinds[i], kinds[j], tries, batch)))
			}
		}
		return worst
	}
	if got := worst(unpadNaive); got < enough {
		t.Errorf("a comparison that ends early passes: |t| = %.1f", got)
	}
	var got float64
	for range 3 { // the machine may have had other work
		if got = worst(unpad); got < enough {
			break
		}
	}
	t.Logf("|t| = %.1f", got)
	if got >= enough {
		t.Errorf("|t| = %.1f, want less than %v", got, enough)
	}
}

// welch returns Welch's t of the times that two inputs take, of which the
// slowest are left out: those were interrupted.
func welch(unpad func([]byte, int) ([]byte, bool), x, y []byte, tries, batch int) float64 {
	rng := rand.New(rand.NewPCG(1, 2))
	inputs := [2][]byte{x, y}
	b := make([]byte, len(x)) // both in the same place
	const most = 4 * time.Microsecond
	var n, mean, m2 [2]float64
	for range tries / batch {
		class := rng.IntN(2)
		copy(b, inputs[class])
		began := time.Now()
		for range batch {
			unpad(b, 16)
		}
		took := time.Since(began)
		if took > most {
			continue
		}
		n[class]++
		d := float64(took) - mean[class]
		mean[class] += d / n[class]
		m2[class] += d * (float64(took) - mean[class])
	}
	return (mean[0] - mean[1]) / math.Sqrt(m2[0]/(n[0]*(n[0]-1))+m2[1]/(n[1]*(n[1]-1)))
}
