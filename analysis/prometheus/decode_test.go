package prometheus

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/belayd/belay/analysis/internal/series"
)

// What servers answer, as they write it: samples, native histograms, scalars,
// keys in any order, keys that nobody knows.
func TestDecode(t *testing.T) {
	r, err := decode([]byte(`{"data":{"result":[
		{"values":[[1435781430.781,"1"],[1435781445,"NaN"],[1435781460.5,"1e3"]],"metric":{"job":"a\u00e9\ud83d\ude00\n","__name__":"up"}},
		{"metric":{},"histograms":[[1.5,{"count":"3","sum":"1.5","buckets":[[0,"0.5","1","2"],[3,"-0.001","0.001","1"]],"new":{"x":[1,null,true]}}]]}
	],"resultType":"matrix","stats":{"a":[{}]}},"infos":["PromQL info"],"warnings":null,"status":"success"}`), 10)
	if err != nil {
		t.Fatal(err)
	}
	want := []*series.Series{
		{Labels: series.Labels{{Name: "__name__", Value: "up"}, {Name: "job", Value: "aé😀\n"}}, Points: []series.Point{{T: 1435781430781, V: 1}, {T: 1435781460500, V: 1000}}},
		{Points: []series.Point{{T: 1500, H: &series.Histogram{Count: 3, Sum: 1.5, Schema: 0, Buckets: []series.Bucket{{Lower: -0.001, Upper: 0.001, Count: 1}, {Lower: 0.5, Upper: 1, Count: 2}}}}}},
	}
	nan := cmp.Comparer(func(a, b float64) bool { return a == b || (math.IsNaN(a) && math.IsNaN(b)) })
	if d := cmp.Diff(want, r.series, nan); d != "" {
		t.Errorf("matrix (-want +got):\n%s", d)
	}
	if r, err := decode([]byte(`{"status":"success","data":{"resultType":"scalar","result":[1,"2.5"]}}`), 10); err != nil || r.scalar != 2.5 {
		t.Errorf("scalar: got %+v, %v, want 2.5", r, err)
	}
}

// Everything that is not a whole answer is an error, and none says more than
// it should.
func TestDecodeRefuses(t *testing.T) {
	for in, want := range map[string]string{
		``:                     "ends in the middle",
		`<html>`:               "no JSON",
		`{"status":"success"}`: "no data",
		`{}`:                   "no status",
		`{"status":"success","data":{"resultType":"matrix","result":[`:                                                                    "ends in the middle",
		`{"status":"success","data":{"resultType":"matrix","result":[]}} x`:                                                               "not the end",
		`{"status":"success","data":{"resultType":"matrix","result":[]},"warnings":["store 1 is away"]}`:                                  "partial",
		`{"status":"success","data":{"resultType":"matrix","result":[]},"isPartial":true}`:                                                "partial",
		`{"status":"error","errorType":"bad_data","error":"parse error"}`:                                                                 "bad_data: parse error",
		`{"status":"success","data":{"resultType":"matrix","result":[{},{},{},{}]}}`:                                                      "more than 3 series",
		`{"status":"success","data":{"resultType":"matrix","result":[{"values":[[1,"x"]]}]}}`:                                             `"x" for a number`,
		`{"status":"success","data":{"resultType":"matrix","result":[{"values":[[1,"1"],[1,"2"]]}]}}`:                                     "two samples of one instant",
		`{"status":"success","data":{"resultType":"matrix","result":[{"values":[["1","2"]]}]}}`:                                           "not a number",
		`{"status":"success","data":{"resultType":"matrix","result":[{"values":[[1]]}]}}`:                                                 "a pair",
		`{"status":"error","status":"success","data":{"resultType":"matrix","result":[]}}`:                                                `field "status" stands there twice`,
		`{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"a":"1","\u0061":"2"}}]}}`:                                `field "a" stands there twice`,
		`{"status":"success","data":{"resultType":"matrix","result":[{"value":[1,"1"],"value":[2,"2"]}]}}`:                                `field "value" stands there twice`,
		`{"status":"success","x":[{"a":1,"a":1}],"data":{"resultType":"matrix","result":[]}}`:                                             `field "a" stands there twice`,
		`{"status":"success","x":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `,"data":{"resultType":"matrix","result":[]}}`: "too deep",
	} {
		r, err := decode([]byte(in), 3)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("decode(%.80s): got %v, %v, want %q", in, r, err, want)
		}
	}
}

// The decoder takes nothing that encoding/json refuses, and reads the same
// labels and values.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"a":"b\u00e9"},"values":[[1.5,"2"],[3,"NaN"]]}]}}`,
		`{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"2"]}]}}`,
		`{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"histograms":[[1,{"count":"1","sum":"2","buckets":[[0,"1","2","1"]]}]]}]}}`,
		`{"status":"error","errorType":"x","error":"y"}`, `{"status":"success","warnings":["w"]}`,
		`{"status":"success","data":{"resultType":"r","Result":[{"":{},"e":[1,""]}]}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := decode(in, 100)
		if err != nil {
			return
		}
		if !json.Valid(in) {
			t.Fatalf("got an answer out of what is no JSON: %q", in)
		}
		// By maps, since names of struct fields match whatever their case.
		var top, data map[string]json.RawMessage
		var result []struct{ Metric map[string]string }
		if json.Unmarshal(in, &top) == nil && json.Unmarshal(top["data"], &data) == nil && json.Unmarshal(data["result"], &result) == nil &&
			r.kind != "scalar" && len(result) != len(r.series) && len(result) > 0 {
			t.Errorf("%q: got %d series, want %d", in, len(r.series), len(result))
		}
		for _, s := range r.series {
			for i := 1; i < len(s.Points); i++ {
				if s.Points[i].T <= s.Points[i-1].T {
					t.Errorf("%q: timestamps do not increase", in)
				}
			}
		}
	})
}
