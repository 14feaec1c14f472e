package scrape

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/belayd/belay/analysis/internal/series"
)

// accept asks for protobuf, the only form with native histograms.
const accept = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7," +
	"application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3"

// A sample is one line of an exposition, whichever its form: a histogram is
// spread out into its buckets.
type sample struct {
	labels series.Labels
	// key identifies the labels, the name included.
	key   string
	value float64
	// created is when the counter began, in Unix milliseconds, if it says so.
	created int64
	// at is the timestamp that the exposition gives it, in Unix milliseconds; 0
	// where it gives none.
	at     int64
	native *series.Histogram
	// gauge: the exposition says that it is one.
	gauge bool
}

// A filter says what of an exposition is wanted.
type filter struct {
	// keeps says whether a metric is asked for.
	keeps func(name string) bool
	// most bounds the samples that are kept, whatever the answer holds.
	most int
}

// add keeps the sample, as long as there is room.
func (f filter) add(flat []sample, x sample) ([]sample, error) {
	if len(flat) == f.most {
		return nil, fmt.Errorf("more than %d series of the metrics asked for", f.most)
	}
	return append(flat, x), nil
}

// maxAge is how old the timestamp may be that an exposition gives a sample:
// what is older is no news of this scrape.
const maxAge = 5 * time.Minute

// parse reads an exposition of the instant, in Unix milliseconds, and keeps the
// metrics that are asked for. Series that do not name their instance are given
// the target's.
func parse(r io.Reader, h http.Header, f filter, instance string, instant int64) ([]sample, error) {
	form, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	if h.Get("Content-Type") == "" {
		form, err = "text/plain", nil
	}
	if err != nil {
		return nil, errors.New("its content type is not one")
	}
	var flat []sample
	switch form {
	case "application/vnd.google.protobuf":
		if params["encoding"] != "delimited" {
			return nil, fmt.Errorf("it answered protobuf with the encoding %q", params["encoding"])
		}
		flat, err = parseProto(r, f)
	case "application/openmetrics-text":
		flat, err = parseText(r, f, true)
	case "text/plain":
		flat, err = parseText(r, f, false)
	default:
		return nil, fmt.Errorf("it answered %s, not metrics", form)
	}
	if err != nil {
		return nil, err
	}
	if flat, err = young(flat, instant-maxAge.Milliseconds()); err != nil {
		return nil, err
	}
	for i := range flat {
		x := &flat[i]
		if x.labels.Get("instance") == "" {
			x.labels = append(x.labels, series.Label{Name: "instance", Value: instance})
		}
		x.labels.Sort()
		x.key = key(x.labels)
	}
	return flat, nil
}

// young leaves out an exposition whose own timestamps are all older than oldest;
// where only some are, there is no telling what the others are worth.
func young(flat []sample, oldest int64) ([]sample, error) {
	old := 0
	var first sample
	for _, x := range flat {
		if x.at != 0 && x.at < oldest {
			if old++; old == 1 {
				first = x
			}
		}
	}
	switch old {
	case 0:
		return flat, nil
	case len(flat):
		return nil, nil
	}
	return nil, fmt.Errorf("a sample of %s carries a timestamp older than %s, others do not: its exporter hands out "+
		"old figures",
		first.labels.Get(series.NameLabel), maxAge)
}

func key(l series.Labels) string {
	var b strings.Builder
	for _, x := range l {
		b.WriteString(x.Name)
		b.WriteByte(0xff)
		b.WriteString(x.Value)
		b.WriteByte(0xff)
	}
	return b.String()
}
