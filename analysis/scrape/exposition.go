package scrape

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

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
	native  *series.Histogram
}

// parse reads an exposition and keeps the metrics that are asked for. Series
// that do not name their instance are given the target's.
func parse(r io.Reader, h http.Header, keeps func(name string) bool, instance string) ([]sample, error) {
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
		flat, err = parseProto(r, keeps)
	case "application/openmetrics-text":
		flat, err = parseText(r, keeps, true)
	case "text/plain":
		flat, err = parseText(r, keeps, false)
	default:
		return nil, fmt.Errorf("it answered %s, not metrics", form)
	}
	if err != nil {
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
