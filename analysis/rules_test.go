package analysis

import (
	"cmp"
	"math"
	"slices"
)

// The rules that people use now, written plainly. All look once a minute.

// minute sums four intervals.
type minute struct {
	nc, kc, nb, kb float64
	ticks          int
}

// add takes an interval in; done says that a minute is over.
func (m *minute) add(x *interval) (done bool) {
	if m.ticks == 4 {
		*m = minute{}
	}
	m.nc, m.kc, m.nb, m.kb = m.nc+x.nc, m.kc+x.kc, m.nb+x.nb, m.kb+x.kb
	m.ticks++
	return m.ticks == 4
}

// fixed fails a look when the last minute's failure rate is beyond the limit,
// and rolls back at the given number of failed looks.
type fixed struct {
	minute
	limit    float64
	failures int
	failed   int
}

func (f *fixed) see(x *interval) string {
	if f.add(x) && f.kc > f.limit*f.nc {
		if f.failed++; f.failed >= f.failures {
			return "rollback"
		}
	}
	return ""
}

// cumulated compares the failure rate since the step's start with the limit.
type cumulated struct {
	minute
	limit float64
	n, k  float64
	step  int
}

func (c *cumulated) see(x *interval) string {
	if x.step != c.step {
		c.step, c.n, c.k = x.step, 0, 0
	}
	done := c.add(x)
	c.n += x.nc
	c.k += x.kc
	if done && c.k > c.limit*c.n {
		return "rollback"
	}
	return ""
}

// ratio compares the last minute's failure rate with stable's.
type ratio struct {
	minute
	factor   float64
	failures int
	failed   int
}

func (r *ratio) see(x *interval) string {
	if r.add(x) && r.nc > 0 && r.nb > 0 && r.kc/r.nc > r.factor*r.kb/r.nb {
		if r.failed++; r.failed >= r.failures {
			return "rollback"
		}
	}
	return ""
}

// mannWhitney compares the minutes' failure rates of both arms when a step
// ends, one-sided at 1%.
type mannWhitney struct {
	minute
	c, b []float64
}

func (m *mannWhitney) see(x *interval) string {
	if m.add(x) && m.nc > 0 && m.nb > 0 {
		m.c, m.b = append(m.c, m.kc/m.nc), append(m.b, m.kb/m.nb)
	}
	if !x.end {
		return ""
	}
	p := rankTest(m.c, m.b)
	m.c, m.b = m.c[:0], m.b[:0]
	if p < 0.01 {
		return "rollback"
	}
	return ""
}

// rankTest is the one-sided p-value of the Mann-Whitney test that c is greater
// than b, by the normal approximation with ties and continuity corrected.
func rankTest(c, b []float64) float64 {
	type value struct {
		v         float64
		candidate bool
	}
	var all []value
	for _, v := range c {
		all = append(all, value{v, true})
	}
	for _, v := range b {
		all = append(all, value{v, false})
	}
	slices.SortFunc(all, func(x, y value) int { return cmp.Compare(x.v, y.v) })
	sum, ties := 0.0, 0.0
	for i := 0; i < len(all); {
		j := i
		for j < len(all) && all[j].v == all[i].v {
			j++
		}
		rank := float64(i+j+1) / 2
		for _, v := range all[i:j] {
			if v.candidate {
				sum += rank
			}
		}
		t := float64(j - i)
		ties += t*t*t - t
		i = j
	}
	nc, nb := float64(len(c)), float64(len(b))
	n := nc + nb
	if nc == 0 || nb == 0 {
		return 1
	}
	u := sum - nc*(nc+1)/2
	variance := nc * nb / 12 * (n + 1 - ties/(n*(n-1)))
	if variance <= 0 {
		return 1
	}
	z := (u - nc*nb/2 - 0.5) / math.Sqrt(variance)
	return math.Erfc(z/math.Sqrt2) / 2
}

// zTest repeats the two-proportion test on the step's data at every look,
// one-sided at 1%.
type zTest struct {
	look           minute
	nc, kc, nb, kb float64
	step           int
}

func (z *zTest) see(x *interval) string {
	if x.step != z.step {
		z.step, z.nc, z.kc, z.nb, z.kb = x.step, 0, 0, 0, 0
	}
	done := z.look.add(x)
	z.nc, z.kc, z.nb, z.kb = z.nc+x.nc, z.kc+x.kc, z.nb+x.nb, z.kb+x.kb
	if !done || z.nc == 0 || z.nb == 0 {
		return ""
	}
	p := (z.kc + z.kb) / (z.nc + z.nb)
	sd := math.Sqrt(p * (1 - p) * (1/z.nc + 1/z.nb))
	if sd > 0 && (z.kc/z.nc-z.kb/z.nb)/sd > 2.3263 {
		return "rollback"
	}
	return ""
}
