package azuremonitor

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/analysis/analysistest"
)

// No answer of the batch API, or of what stands in its place, makes a number that is none.
func FuzzRead(f *testing.F) {
	build := func(c *http.Client) (analysis.Source, error) { return New(config(c)) }
	const id = "/subscriptions/" + subscription + "/resourceGroups/ml-prod/providers/Microsoft.MachineLearningServices/workspaces/recommendations/onlineEndpoints/"
	at := time.Now().UTC().Add(-10 * time.Minute).Truncate(time.Minute).Format(time.RFC3339)
	one := func(metric, figure string) string {
		return fmt.Sprintf(`{"values":[{"resourceid":%q,"value":[{"name":{"value":%q},"errorCode":"Success","timeseries":[{"metadatavalues":[{"name":{"value":"deployment"},"value":"blue"},{"name":{"value":"statuscode"},"value":"503"}],"data":[{"timeStamp":%q,"average":%s}]}]}]}]}`,
			id+analysistest.Endpoints[0], metric, at, figure)
	}
	analysistest.Hostile(f, build, metrics(),
		one("RequestsPerMinute", "12.5"), one("RequestLatency_P95", "450"), one("RequestsPerMinute", "-1"), one("RequestsPerMinute", "1e308"), one("RequestsPerMinute", "null"),
		`{"values":[{"value":[{"errorCode":"Throttled"}]}]}`, `{"error":{"code":"BadRequest"}}`, `{}`)
}
