package metrics

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/limpetlb/limpet"
	histograms "github.com/limpetlb/limpet/internal/histogram"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// A scrape collects the values of all families at one time.
type scrape struct {
	constant []*dto.LabelPair // of every metric, sorted by name
	classic  []int            // indexes of the classic bounds in those of histograms
	metrics  map[*family][]*dto.Metric
	metric   slab[dto.Metric]
	pair     slab[dto.LabelPair]
	pairs    slab[*dto.LabelPair]
	counter  slab[dto.Counter]
	gauge    slab[dto.Gauge]
	float    slab[float64]
}

// A slab hands out values that are allocated together. None is handed out
// twice.
type slab[T any] []T

func (s *slab[T]) take(n int) []T {
	if len(*s) < n {
		*s = make([]T, max(n, 1024))
	}
	part := (*s)[:n:n]
	*s = (*s)[n:]
	return part
}

func (s *slab[T]) new(v T) *T {
	p := &s.take(1)[0]
	*p = v
	return p
}

// add adds a metric without a value.
func (s *scrape) add(f *family, labels []string) *dto.Metric {
	if len(labels) != len(f.labels) {
		panic("metrics: " + f.name + " has other labels")
	}
	pairs := s.pairs.take(len(labels) + len(s.constant))
	copy(pairs, s.constant)
	for i := range labels {
		p := &s.pair.take(1)[0]
		p.Name, p.Value = &f.labels[i], &labels[i]
		pairs[len(s.constant)+i] = p
	}
	// Prometheus wants labels sorted by name.
	slices.SortFunc(pairs, func(a, b *dto.LabelPair) int { return strings.Compare(*a.Name, *b.Name) })
	m := &s.metric.take(1)[0]
	m.Label = pairs
	s.metrics[f] = append(s.metrics[f], m)
	return m
}

// value adds a counter or a gauge.
func (s *scrape) value(f *family, v float64, labels ...string) {
	m := s.add(f, labels)
	switch f.kind {
	case counter:
		c := &s.counter.take(1)[0]
		c.Value = s.float.new(v)
		m.Counter = c
	case gauge:
		g := &s.gauge.take(1)[0]
		g.Value = s.float.new(v)
		m.Gauge = g
	default:
		panic("metrics: " + f.name + " is a histogram")
	}
}

func (s *scrape) count(f *family, n uint64, labels ...string) { s.value(f, float64(n), labels...) }

// flag adds 1 or 0.
func (s *scrape) flag(f *family, yes bool, labels ...string) {
	v := 0.0
	if yes {
		v = 1
	}
	s.value(f, v, labels...)
}

// counts adds a counter for each count, which its last label names. Those in
// always are added even if they have not occurred.
func (s *scrape) counts(f *family, counts []limpet.Count, always []string, labels ...string) {
	for _, c := range counts {
		s.count(f, c.N, append(slices.Clip(labels), c.Label)...)
	}
	for _, label := range always {
		if !slices.ContainsFunc(counts, func(c limpet.Count) bool { return c.Label == label }) {
			s.count(f, 0, append(slices.Clip(labels), label)...)
		}
	}
}

// A [limpet.Histogram] has the bounds of native histograms: 2^(index/4)
// seconds, from the index lowest to the index highest.
const (
	octave  = 1 << histograms.Schema
	lowest  = histograms.First * octave
	highest = histograms.Last * octave
)

// histogram adds a histogram in both forms: with native buckets, and with
// classic ones.
func (s *scrape) histogram(f *family, h limpet.Histogram, labels ...string) {
	m := s.add(f, labels)
	total := h.Count()
	out := &dto.Histogram{
		SampleCount:   new(total),
		SampleSum:     new(h.Sum.Seconds()),
		Schema:        proto.Int32(histograms.Schema),
		ZeroThreshold: new(exact(lowest)),
		ZeroCount:     new(h.Counts[0]),
	}
	// Each bucket of the native form is stored as its difference from the one
	// before; spans leave out runs of empty ones.
	next, before := 0, int64(0)
	for i, n := range h.Counts[1:] {
		if n == 0 {
			continue
		}
		index := lowest + 1 + i
		if len(out.PositiveSpan) == 0 || index != next {
			offset := index - next
			if len(out.PositiveSpan) == 0 {
				offset = index
			}
			out.PositiveSpan = append(out.PositiveSpan, &dto.BucketSpan{Offset: new(int32(offset)), Length: proto.Uint32(0)})
		}
		last := out.PositiveSpan[len(out.PositiveSpan)-1]
		*last.Length++
		out.PositiveDelta = append(out.PositiveDelta, int64(n)-before)
		next, before = index+1, int64(n)
	}
	if len(out.PositiveSpan) == 0 {
		// An empty span tells a native histogram from a classic one.
		out.PositiveSpan = []*dto.BucketSpan{{Offset: proto.Int32(0), Length: proto.Uint32(0)}}
	}
	sum, from := uint64(0), 0
	for _, i := range s.classic {
		for ; from <= i; from++ {
			sum += h.Counts[from]
		}
		out.Bucket = append(out.Bucket, &dto.Bucket{
			CumulativeCount: new(sum), UpperBound: new(exact(lowest + i)), Exemplar: exemplar(h, i, s.classic),
		})
	}
	m.Histogram = out
}

// exact returns the bound with an index, in seconds.
func exact(index int) float64 { return math.Exp2(float64(index) / octave) }

// classicIndexes returns the places of bounds in those of a histogram, and the
// indexes of those that are not ascending powers of two.
func classicIndexes(bounds []time.Duration) (places, wrong []int) {
	for i, b := range bounds {
		power := int(math.Round(math.Log2(b.Seconds())))
		place := power*octave - lowest
		if b <= 0 || place < 0 || place > highest-lowest || b != time.Duration(math.Exp2(float64(power))*float64(time.Second)) || len(places) > 0 && place <= places[len(places)-1] {
			wrong = append(wrong, i)
			continue
		}
		places = append(places, place)
	}
	return places, wrong
}

// families returns what was collected, sorted by name.
func (s *scrape) families() []*dto.MetricFamily {
	var list []*dto.MetricFamily
	for _, f := range all {
		if metrics := s.metrics[f]; len(metrics) > 0 {
			list = append(list, &dto.MetricFamily{Name: new(prefix + f.name), Help: &f.help, Type: f.kind.Enum(), Metric: metrics})
		}
	}
	slices.SortFunc(list, func(a, b *dto.MetricFamily) int { return strings.Compare(*a.Name, *b.Name) })
	return list
}

// exemplar returns the exemplar of the classic bucket that ends with bound i.
func exemplar(h limpet.Histogram, i int, classic []int) *dto.Exemplar {
	above := time.Duration(-1)
	if at := slices.Index(classic, i); at > 0 {
		above = h.Bounds[classic[at-1]]
	}
	for _, x := range slices.Backward(h.Exemplars) {
		if x.Value > above && x.Value <= h.Bounds[i] {
			return &dto.Exemplar{
				Label:     []*dto.LabelPair{{Name: new("trace_id"), Value: new(x.TraceID)}},
				Value:     new(x.Value.Seconds()),
				Timestamp: timestamppb.New(x.At),
			}
		}
	}
	return nil
}
