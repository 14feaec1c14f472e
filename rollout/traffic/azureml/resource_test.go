package azureml

import (
	"bytes"
	"strings"
	"testing"

	"github.com/belayd/belay/rollout/traffic"
)

const whole = `{"id":"/e","location":"westeurope","tags":{"a":"b"},"properties":{"authMode":"Key","traffic":{"blue":100},` +
	`"provisioningState":"Succeeded","future":{"x":[1,2.50,null]}}}`

// The proof does not rest on how the body was made: every other difference is
// found, wherever it is.
func TestProveBites(t *testing.T) {
	body, err := change([]byte(whole), traffic.Split{Weights: map[string]int{"blue": 95, "green": 5}})
	if err != nil {
		t.Fatal(err)
	}
	if err := prove([]byte(whole), body); err != nil {
		t.Fatalf("prove of an honest body: %v", err)
	}
	tests := []struct{ name, old, new, at string }{
		{"value changed", `"Key"`, `"AADToken"`, "/properties/authMode"},
		{"member lost", `,"future":{"x":[1,2.50,null]}`, ``, "/properties/future"},
		{"member added", `"authMode"`, `"publicNetworkAccess":"Enabled","authMode"`, "/properties/publicNetworkAccess"},
		{"digit lost", `2.50`, `2.5`, "/properties/future/x"},
		{"null lost", `,null`, ``, "/properties/future/x"},
		{"tag changed", `"a":"b"`, `"a":"c"`, "/tags/a"},
		{"place changed", `westeurope`, `eastus`, "/location"},
	}
	for _, tt := range tests {
		bad := strings.Replace(string(body), tt.old, tt.new, 1)
		if bad == string(body) {
			t.Fatalf("%s: %s does not hold %s", tt.name, body, tt.old)
		}
		if err := prove([]byte(whole), []byte(bad)); err == nil || !strings.HasSuffix(err.Error(), " "+tt.at) {
			t.Errorf("%s: got %v, want a difference at %s", tt.name, err, tt.at)
		}
	}
}

// A resource that cannot be understood in full is not written.
func TestParseRefuses(t *testing.T) {
	tests := []struct{ name, raw string }{
		{"no JSON", `{`},
		{"no object", `[]`},
		{"no properties", `{"location":"x"}`},
		{"properties are no object", `{"properties":7}`},
		{"no state", `{"properties":{"traffic":{"blue":100}}}`},
		{"state is no text", `{"properties":{"provisioningState":7}}`},
		{"traffic twice", `{"properties":{"provisioningState":"Succeeded","traffic":{"blue":100},"Traffic":{"green":100}}}`},
		{"properties twice", `{"properties":{"provisioningState":"Succeeded"},"properties":{"provisioningState":"Succeeded"}}`},
		{"a deployment twice", `{"properties":{"provisioningState":"Succeeded","traffic":{"blue":0,"blue":100}}}`},
		{"traffic is no map", `{"properties":{"provisioningState":"Succeeded","traffic":[1]}}`},
		{"traffic in halves", `{"properties":{"provisioningState":"Succeeded","traffic":{"blue":99.5,"green":0.5}}}`},
		{"traffic sums to 99", `{"properties":{"provisioningState":"Succeeded","traffic":{"blue":99}}}`},
		{"negative traffic", `{"properties":{"provisioningState":"Succeeded","traffic":{"blue":105,"green":-5}}}`},
		{"something after it", `{"properties":{"provisioningState":"Succeeded"}} {}`},
	}
	for _, tt := range tests {
		if e, err := parse([]byte(tt.raw)); err == nil {
			t.Errorf("%s: got %+v, want an error", tt.name, e)
		}
	}
}

// Any resource that is understood can be written with any split, the proof
// holds, and what is written shows that split.
func FuzzChange(f *testing.F) {
	f.Add([]byte(whole), uint8(5), false)
	f.Add([]byte(`{"properties":{"provisioningState":"Failed","Traffic":{"BLUE":100,"green":0},"mirrorTraffic":{"green":10}}}`), uint8(60), false)
	f.Add([]byte(`{"PROPERTIES":{"provisioningState":"Succeeded","traffic":null,"mirrorTraffic":null,"keys":null}}`), uint8(100), true)
	f.Fuzz(func(t *testing.T, raw []byte, green uint8, mirrored bool) {
		if _, err := parse(raw); err != nil {
			return
		}
		to := traffic.Split{Weights: traffic.Positive(map[string]int{"blue": 100 - int(green%101), "green": int(green % 101)})}
		if mirrored {
			to.Mirror = map[string]int{"red": 10}
		}
		body, err := change(raw, to)
		if err != nil {
			t.Fatalf("change(%s): %v", raw, err)
		}
		if err := prove(raw, body); err != nil {
			t.Errorf("prove(%s, %s): %v", raw, body, err)
		}
		if bytes.Contains(body, []byte(`"provisioningState"`)) && !bytes.Contains(raw, []byte(`\u`)) && bytes.Count(raw, []byte(`"provisioningState"`)) == 1 {
			t.Errorf("change(%s): got %s, want it without the state", raw, body)
		}
		top, props, err := open(body)
		if err != nil {
			t.Fatalf("open(%s): %v", body, err)
		}
		props["provisioningState"] = []byte(`"Succeeded"`)
		text, err := join(top, props)
		if err != nil {
			t.Fatal(err)
		}
		e, err := parse(text)
		if err != nil || !e.split.Equal(to) {
			t.Errorf("change(%s) to %s: got %s, which reads as %+v, %v", raw, to, body, e, err)
		}
	})
}
