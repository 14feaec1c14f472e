// Package notifiertest holds what every notifier must keep to, whatever it talks
// to: the other side's failures are classified alike, the same Key is the same
// message, no secret is in any error, a context that ends ends the call.
//
// The rules of the package:
//   - Exercise runs the whole contract against one adapter and the other side that
//     the adapter's test brings along.
//   - Nothing here waits for wall-clock luck: the other side holds its answer until
//     the test lets go.
//
// It imports package notifier and the words of its notices, and checks behaviour, not
// wire formats: those belong to the adapters' own tests.
package notifiertest

import (
	"fmt"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/rollout/approval"
	"github.com/belayd/belay/rollout/view"
)

// Noon is the instant at which every notice of this package happens.
var Noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// Rollout is what the notices of this package are about: a rollout at 25% whose
// guardrails have been read.
func Rollout() notifier.Rollout {
	return notifier.Rollout{
		ID: "r-7f3a", Policy: "recommendations", Owner: "team-recommendations",
		Router: "azureml-prod", Endpoint: "recs", Stable: "blue", Candidate: "green", Version: "2026.11.3",
		Requester: "oidc:ci@releases", OnBehalfOf: "registry/models",
		Labels: map[string]string{"tier": "1"}, Runbook: "https://runbooks.example/recs",
		Phase: "waiting", Reason: "approval", Sentence: "quarter baked for 30m and every guardrail passed.",
		Step:    "quarter",
		Weights: map[string]int{"blue": 75, "green": 25},
		Guardrails: []notifier.Guardrail{
			line("failures", "pass", "<= 1%",
				"failures is 0.31% on green, below 1% with the wanted certainty.",
				"0.31%", "0.29%", "0.24%–0.39%", "48,210"),
			line("p95", "pass", "<= 450ms",
				"p95 is 183ms on green, below 450ms with the wanted certainty.",
				"183ms", "180ms", "176ms–191ms", "48,210"),
			line("watch-through", "undecided", ">= 0.98x stable",
				"watch-through may be below 0.98x stable; 9,311 plays do not tell yet.",
				"71.2%", "71.4%", "0.969x–1.026x", "9,311"),
		},
		WaitingFor:     "product-owner until 16:00 UTC",
		ManualRollback: "az ml online-endpoint update --name recs --traffic blue=100",
		BelayRollback:  "belay rollback r-7f3a --reason '…' --server https://belay.example",
		URL:            "https://belay.example/v1/rollouts/r-7f3a",
		Server:         "https://belay.example",
		Started:        Noon.Add(-2 * time.Hour),
	}
}

// line is a guardrail as a message shows it.
func line(
	name string, verdict analysis.Outcome, limit, sentence, candidate, stable, interval, n string,
) notifier.Guardrail {
	return notifier.Guardrail{
		Guardrail: view.Guardrail{Name: name, Verdict: verdict, Limit: limit, Sentence: sentence},
		Candidate: candidate, Stable: stable, Interval: interval, N: n,
	}
}

// Notice is a notice of the topic with everything in it that the topic may have.
// Its key is "<topic>/r-7f3a".
func Notice(topic notifier.Topic) notifier.Notice {
	n := notifier.Notice{
		Key: string(topic) + "/r-7f3a", Delivery: string(topic) + "/r-7f3a/1", Topic: topic,
		Severity: notifier.SeverityInfo, At: Noon, Rollout: Rollout(),
		Summary: "recs: green 2026.11.3 has 25% and waits for product-owner",
	}
	switch topic {
	case notifier.TopicPage:
		n.Severity = notifier.SeverityCritical
		n.Since, n.Rollout.BelayAck = Noon.Add(-time.Minute), "belay ack r-7f3a --server https://belay.example"
		n.Summary = "recs: failures broke its limit on green; rolling back to blue"
	case notifier.TopicTest:
		n.Severity = notifier.SeverityCritical
		n.Summary = "this is a test of the notifier; nothing is wrong"
	case notifier.TopicAsk:
		n.Question = Question()
	case notifier.TopicStatus, notifier.TopicThread:
	}
	return n
}

// Acknowledged is the page of Notice, of which somebody has taken charge.
func Acknowledged() notifier.Notice {
	n := Notice(notifier.TopicPage)
	n.Acknowledged = &notifier.Acknowledgement{Who: "slack:T1/U2", When: Noon.Add(time.Minute),
		Reason: "looking at the new feature store"}
	return n
}

// Question is an open approval request from 25% to 60%.
func Question() *notifier.Question {
	return &notifier.Question{
		Gate: "product-owner",
		Question: view.Question{
			Name: "product-owner", Nonce: "n0nce-5be1", Channel: "#recs-release",
			Users: []string{"U024BE7LH"}, Groups: []string{"product-owners"}, Quorum: 1,
			Step: "majority", FromWeight: 25, ToWeight: 60, RequestsPerHour: 205_000,
			Expires: Noon.Add(4 * time.Hour), OnExpiry: approval.ExpiryHold, State: approval.Open,
		},
	}
}

// Topics are all topics.
func Topics() []notifier.Topic {
	return []notifier.Topic{notifier.TopicStatus, notifier.TopicThread, notifier.TopicAsk, notifier.TopicPage,
		notifier.TopicTest}
}

// numbered gives the notice a key and delivery of its own.
func numbered(n notifier.Notice, i int) notifier.Notice {
	n.Key = fmt.Sprintf("%s/%d", n.Key, i)
	n.Delivery = fmt.Sprintf("%s/%d", n.Delivery, i)
	n.Rollout.ID = fmt.Sprintf("%s-%d", n.Rollout.ID, i)
	return n
}
