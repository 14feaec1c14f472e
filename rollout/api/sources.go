package api

import (
	"context"
	"net/http"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout"
)

// A SourceList is what the sources show now.
type SourceList struct {
	SchemaVersion int          `json:"schemaVersion"`
	Sources       []SourceLook `json:"sources"`
}

// A SourceLook is what one source answered when it was read once for all
// policies in force.
type SourceLook struct {
	Name string `json:"name"`
	// Kind is the adapter's, for example "prometheus".
	Kind string `json:"kind"`
	// Error says why nothing could be read, Remedy what to do about it. Neither
	// holds a secret.
	Error  string `json:"error,omitempty"`
	Remedy string `json:"remedy,omitempty"`
	// Took is how long the source took to answer, as in "120ms"; empty when it was
	// not asked.
	Took string `json:"took,omitempty"`
	// Metrics are those that policies ask of it; none: no policy asks it, and it
	// was not read.
	Metrics []MetricLook `json:"metrics"`
}

// A MetricLook is what a source told of one policy's metric.
type MetricLook struct {
	Policy   string              `json:"policy"`
	Metric   string              `json:"metric"`
	Kind     analysis.Kind       `json:"kind"`
	Endpoint rollout.EndpointRef `json:"endpoint"`
	// From and To bound what was answered.
	From time.Time `json:"from,omitzero"`
	To   time.Time `json:"to,omitzero"`
	// Behind is how far To is behind the time of asking, as in "20s".
	Behind string `json:"behind,omitempty"`
	// UsuallyBehind is how far it was behind at most in the last minutes, where the
	// source tells it.
	UsuallyBehind string `json:"usuallyBehind,omitempty"`
	// ScrapeInterval is how far apart the samples are, where the source tells it.
	ScrapeInterval string `json:"scrapeInterval,omitempty"`
	Error          string `json:"error,omitempty"`
	Remedy         string `json:"remedy,omitempty"`
	// Stable is the deployment that serves; null when it is not known. Candidate is
	// another deployment of the endpoint, null when there is none.
	Stable     *DeploymentLook `json:"stable"`
	Candidate  *DeploymentLook `json:"candidate"`
	Guardrails []GuardrailLook `json:"guardrails"`
	// AATest is what became of stable's own instances in the candidate's part; absent
	// where the source cannot look back.
	AATest *AATest `json:"aaTest,omitempty"`
}

// An AATest is what the guardrails on a metric would have said of a release that is none:
// each of stable's instances in turn, compared with the others.
type AATest struct {
	// Instances is how many were tried; 0 where there was nothing to try, as Sentence says.
	Instances int `json:"instances"`
	// Alarms names those that would have been rolled back.
	Alarms []string `json:"alarms,omitempty"`
	// Dispersion is by how much events cluster, at most; 1 is not at all, 0 not known.
	Dispersion float64 `json:"dispersion,omitempty"`
	Sentence   string  `json:"sentence"`
	Remedy     string  `json:"remedy,omitempty"`
}

// A DeploymentLook is what a source told of a metric of one deployment.
type DeploymentLook struct {
	Name string `json:"name"`
	// Fresh: the series is there and has a sample that is not stale. Without it the
	// figures mean nothing.
	Fresh bool `json:"fresh"`
	// N is the number of events from From to To, PerSecond the same a second.
	N         float64 `json:"n"`
	PerSecond float64 `json:"perSecond"`
	// K is the number of bad events, or good ones as the metric says.
	K float64 `json:"k,omitempty"`
	// Value is a plain number at To.
	Value float64 `json:"value,omitempty"`
	// Instances and Buckets are how many were told apart.
	Instances int `json:"instances,omitempty"`
	Buckets   int `json:"buckets,omitempty"`
}

// A GuardrailLook says whether a guardrail could be judged on what was told.
type GuardrailLook struct {
	Name  string `json:"name"`
	Limit string `json:"limit"`
	// Effective is the limit on the histogram's own buckets, where that differs.
	Effective string `json:"effective,omitempty"`
	Judgeable bool   `json:"judgeable"`
	// Sentence says why, or why not.
	Sentence string `json:"sentence"`
}

// sources says what the sources show now.
func (s *Server) sources(w http.ResponseWriter, r *http.Request, a Actor) error {
	if _, err := query(r); err != nil {
		return err
	}
	if !a.May(nil, RoleOperate) {
		return forbidden(a, []Role{RoleOperate})
	}
	out := SourceList{SchemaVersion: SchemaVersion, Sources: []SourceLook{}}
	out.Sources = append(out.Sources, s.c.Catalog.Sources(r.Context())...)
	return send(w, http.StatusOK, out)
}

// Sources makes belayd read every source once and says what they show.
func (c *Client) Sources(ctx context.Context) (l SourceList, err error) {
	_, err = c.call(ctx, call{method: "GET", path: "/v1/sources", out: &l})
	return l, err
}
