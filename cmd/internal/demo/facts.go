package demo

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// Facts are what the endpoint's own request log says about a span of time. They
// do not come from Belay.
type Facts struct {
	From, To time.Time
	// Served counts the requests that arrived in (From, To], Candidate those of
	// them that the candidate served.
	Served, Candidate int
	// Bad counts the requests that the fault made bad: failed, slower than the
	// limit, abandoned, or refused because nobody had traffic.
	Bad int
	// Expected is how many of the candidate's would have been bad without the
	// fault.
	Expected float64
}

// bad reports whether a logged request is of the kind that the fault makes.
func (f Fault) bad(r request, limit time.Duration) bool {
	switch f {
	case FaultFailures:
		return r.deployment == Candidate && r.status >= 500
	case FaultLatency:
		return r.deployment == Candidate && r.took > limit
	case FaultBusiness:
		return r.deployment == Candidate && r.play == "abandoned"
	case FaultForeignChange:
		return r.deployment == ""
	case FaultNone, FaultNoData:
		return false
	}
	return false
}

// usual is the share of a healthy candidate's requests that bad counts.
func (f Fault) usual() float64 {
	switch f {
	case FaultFailures:
		return failureShare
	case FaultLatency:
		return 0.00025 // of a lognormal with p95 180 ms and sigma 0.5, above 450 ms
	case FaultBusiness:
		return 1 - watchedShare
	case FaultNone, FaultNoData, FaultForeignChange:
	}
	return 0
}

// readFacts counts the log's requests that arrived in (from, to].
func readFacts(log io.Reader, f Fault, speed Speed, from, to time.Time) (Facts, error) {
	out := Facts{From: from, To: to}
	lines := bufio.NewScanner(log)
	for n := 1; lines.Scan(); n++ {
		if strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		r, err := parseRequest(lines.Text())
		if err != nil {
			return Facts{}, fmt.Errorf("read request log: line %d: %w", n, err)
		}
		if !r.at.After(from) || r.at.After(to) {
			continue
		}
		out.Served++
		if r.deployment == Candidate {
			out.Candidate++
		}
		if f.bad(r, speed.scale(latencyLimit)) {
			out.Bad++
		}
	}
	if err := lines.Err(); err != nil {
		return Facts{}, fmt.Errorf("read request log: %w", err)
	}
	out.Expected = f.usual() * float64(out.Candidate)
	return out, nil
}

// parseRequest reads one line as requestLog.add wrote it.
func parseRequest(line string) (request, error) {
	cells := strings.Split(line, "\t")
	if len(cells) != 5 {
		return request{}, fmt.Errorf("got %d fields, want 5", len(cells))
	}
	at, err := time.Parse(time.RFC3339Nano, cells[0])
	if err != nil {
		return request{}, err
	}
	status, err := strconv.Atoi(cells[2])
	if err != nil {
		return request{}, err
	}
	ms, err := strconv.ParseFloat(cells[3], 64)
	if err != nil {
		return request{}, err
	}
	r := request{at: at, deployment: cells[1], status: status, took: time.Duration(ms * float64(time.Millisecond)),
		play: cells[4]}
	if r.deployment == "-" {
		r.deployment = ""
	}
	return r, nil
}
