package series

import (
	"fmt"
	"testing"
)

// BenchmarkCounts is one endpoint's deployment: four instances, three codes.
func BenchmarkCounts(b *testing.B) {
	var total, bad []*Series
	for i := range 4 {
		for _, code := range []string{"200", "404", "503"} {
			s := make1("r", fmt.Sprintf("code=%s,instance=%d", code, i), 100, 200, 300, 400, 500)
			total = append(total, s)
			if code == "503" {
				bad = append(bad, s)
			}
		}
	}
	Align(total, identity)
	spec := Extraction{From: 3000, To: 5000, Gap: 300_000, Stale: 3000, Instance: "instance"}
	for b.Loop() {
		if s, err := Counts(total, bad, spec); err != nil || s.N != 2400 {
			b.Fatal(s.N, err)
		}
	}
}

// BenchmarkBucketsNative is four instances with 160 buckets each, all of them
// wanted.
func BenchmarkBucketsNative(b *testing.B) {
	var all []*Series
	for i := range 4 {
		s := make1("h", fmt.Sprintf("instance=%d", i))
		for t := range int64(4) {
			per := map[int]float64{}
			for j := -80; j < 80; j++ {
				per[j] = float64(10 * (t + 1))
			}
			s.Points = append(s.Points, Point{T: (t + 1) * 1000, H: native(3, per)})
		}
		all = append(all, s)
	}
	Align(all, identity)
	spec := Extraction{From: 2000, To: 4000, Gap: 300_000, Stale: 3000, Instance: "instance"}
	for b.Loop() {
		if s, err := Buckets(nil, all, spec); err != nil || s.N != 4*160*20 || len(s.Buckets) < 160 {
			b.Fatal(s.N, err)
		}
	}
}
