package series

// A Horizon says how far a set of series may be read. Instants and lengths of
// time are in milliseconds.
type Horizon struct {
	// To is the latest instant that is asked for.
	To int64
	// Step is the usual time between two samples.
	Step int64
	// Patience is how far a series may be behind the newest of all and still be
	// waited for.
	Patience int64
}

// A Reached is how far a set of series has come.
type Reached struct {
	// At is the latest instant that every live series has reached; 0 where none
	// lives. Head is that of the newest sample, and Second of the newest of those series
	// that have not come so far; 0 where all have.
	At, Head, Second int64
	// Late are the series that have missed a sample and have not ended, for all
	// that is known.
	Late []*Series
}

// Reach finds the latest instant that every live series has reached. A series
// lives until its source says that it has ended, or it is further behind the
// others than the patience allows and than three of its own steps.
func Reach(all []*Series, h Horizon) Reached {
	var r Reached
	for _, s := range all {
		r.Head = max(r.Head, s.Last(h.To))
	}
	for _, s := range all {
		last := s.Last(h.To)
		if last == 0 || s.Ended {
			continue
		}
		behind := r.Head - last
		if step := max(h.Step, s.step()); 2*behind > 3*step {
			r.Late = append(r.Late, s)
			if behind > max(h.Patience, 3*step+1000) {
				continue
			}
		}
		if r.At == 0 || last < r.At {
			r.At = last
		}
		if last < r.Head {
			r.Second = max(r.Second, last)
		}
	}
	return r
}

// step is the time between the two newest samples; 0 where there are none.
func (s *Series) step() int64 {
	n := len(s.Points)
	if n < 2 {
		return 0
	}
	return s.Points[n-1].T - s.Points[n-2].T
}
