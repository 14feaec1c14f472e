package loganalytics

import (
	"net/http"
	"testing"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/analysis/analysistest"
)

// No answer of the query API, or of what stands in its place, makes a number that is none.
func FuzzRead(f *testing.F) {
	build := func(c *http.Client) (analysis.Source, error) {
		return New(Config{Workspace: workspace, Credential: credential{}, Client: c})
	}
	const columns = `{"tables":[{"name":"PrimaryResult","columns":[{"name":"belay_deployment","type":"string"},{"name":"belay_endpoint","type":"string"},{"name":"belay_le","type":"real"},{"name":"c0","type":"long"},{"name":"c1","type":"long"},{"name":"c2","type":"real"},{"name":"c3","type":"long"},{"name":"c4","type":"long"}],"rows":[`
	analysistest.Hostile(f, build, metrics(),
		columns+`["blue","recs",512,9,1,0,0,0],["GREEN","RECS","256","8","2","NaN","0","0"]]}]}`,
		columns+`["blue","recs",-1,1e308,1e308,1e308,0,0],["blue","recs",0.5,1e308,-1,0,0,0]]}]}`,
		`{"tables":[{"name":"PrimaryResult","columns":[{"name":"load","type":"real"}],"rows":[[3.5]]}]}`,
		`{"tables":[{"name":"PrimaryResult","columns":[],"rows":[[]]}]}`,
		columns+`]}],"error":{"code":"PartialError"}}`, `{"error":{"code":"BadArgumentError"}}`, `{}`)
}
