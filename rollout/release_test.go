package rollout_test

import (
	"testing"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/person"
)

// TestSameRelease: what makes a repeated key another request, and what does not.
func TestSameRelease(t *testing.T) {
	of := func(change func(*rollout.Release)) rollout.Release {
		r := rollout.Release{Policy: "recs", Candidate: "green", Version: "7", Requester: person.Person{ID: "ci", Groups: []string{"a"}},
			OnBehalfOf: "ann", Labels: map[string]string{"a": "b"}, Artifact: "x", Environment: "prod", Retries: "r0", Undoes: &rollout.Undone{Rollout: "r1"}}
		change(&r)
		return r
	}
	have := of(func(*rollout.Release) {})
	for name, c := range map[string]struct {
		change func(*rollout.Release)
		same   bool
	}{
		"nothing":        {func(*rollout.Release) {}, true},
		"groups":         {func(r *rollout.Release) { r.Requester.Groups = []string{"b"} }, true},
		"source":         {func(r *rollout.Release) { r.Source = "elsewhere" }, true},
		"its own policy": {func(r *rollout.Release) { r.Policy = "" }, true},
		"undone again":   {func(r *rollout.Release) { r.Undoes = &rollout.Undone{Rollout: "r1"} }, true},
		"policy":         {func(r *rollout.Release) { r.Policy = "ads" }, false},
		"candidate":      {func(r *rollout.Release) { r.Candidate = "blue" }, false},
		"version":        {func(r *rollout.Release) { r.Version = "8" }, false},
		"requester":      {func(r *rollout.Release) { r.Requester.ID = "eve" }, false},
		"on behalf of":   {func(r *rollout.Release) { r.OnBehalfOf = "" }, false},
		"labels":         {func(r *rollout.Release) { r.Labels = nil }, false},
		"artifact":       {func(r *rollout.Release) { r.Artifact = "y" }, false},
		"environment":    {func(r *rollout.Release) { r.Environment = "" }, false},
		"retries":        {func(r *rollout.Release) { r.Retries = "" }, false},
		"undoes":         {func(r *rollout.Release) { r.Undoes = nil }, false},
	} {
		if got := have.Same(of(c.change)); got != c.same {
			t.Errorf("%s changed: got the same %v, want %v", name, got, c.same)
		}
	}
}
