package bulkhead

import (
	"context"
	"fmt"
	"iter"
	"net/http"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/rollout/traffic"
)

// MissingRouter stands where a router could not be built: every call fails with
// why, and may succeed once the config is put right.
func MissingRouter(why error) traffic.Router { return missingRouter{why} }

type missingRouter struct{ why error }

// Split implements traffic.Router.
func (m missingRouter) Split(context.Context, string) (traffic.Split, error) {
	return traffic.Split{}, missing(m.why)
}

// Shift implements traffic.Router.
func (m missingRouter) Shift(context.Context, string, traffic.Split, traffic.Split) error {
	return missing(m.why)
}

// Describe implements traffic.Router.
func (m missingRouter) Describe(context.Context, string) (traffic.Description, error) {
	return traffic.Description{ManualRollback: func(string) string { return "" }}, missing(m.why)
}

// Endpoints implements traffic.Router.
func (m missingRouter) Endpoints(context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) { yield("", missing(m.why)) }
}

// Probe implements traffic.Router.
func (m missingRouter) Probe(context.Context, string, string, *http.Request) (*http.Response, error) {
	return nil, missing(m.why)
}

// MissingSource stands where a source could not be built: every reading is an
// error that says why.
func MissingSource(why error) analysis.Source { return missingSource{why} }

type missingSource struct{ why error }

// Read implements analysis.Source.
func (m missingSource) Read(_ context.Context, qs []analysis.Query) ([]analysis.Reading, error) {
	rs := make([]analysis.Reading, len(qs))
	for i, q := range qs {
		rs[i] = analysis.ErrorReading(q, missing(m.why).Error())
	}
	return rs, nil
}

// MissingNotifier stands where a notifier could not be built: what it was to tell
// waits for it.
func MissingNotifier(why error) notifier.Notifier { return missingNotifier{why} }

type missingNotifier struct{ why error }

// Notify implements notifier.Notifier.
func (m missingNotifier) Notify(context.Context, notifier.Notice) (string, error) {
	return "", missing(m.why)
}

// missing says why nothing can be asked.
func missing(why error) error { return fmt.Errorf("belayd's config cannot be used here: %w", why) }
