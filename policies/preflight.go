package policies

import (
	"bytes"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/belayd/belay/policies/document"
)

const (
	defaultHeadroom = 30
	defaultFreshFor = "5m"
	defaultPatience = "10m"
)

// checkKeys are the keys that each check takes besides check.
var checkKeys = map[string][]string{
	"ready":             {"within"},
	"rollback-ready":    nil,
	"capacity":          {"headroom"},
	"fresh-metrics":     {"within"},
	"tags":              {"required"},
	"invoke":            {"request", "expect"},
	"refuses-anonymous": nil,
}

func (c *checker) preflight() {
	checks := c.policy.Document.Spec.Preflight
	seen := map[string]bool{}
	for i := range checks {
		ch, at := &checks[i], fmt.Sprintf("spec.preflight[%d]", i)
		keys, known := checkKeys[ch.Check]
		if !known {
			continue // reported where it was read
		}
		for _, k := range c.policy.at[at].Keys {
			if _, isKey := allCheckKeys[k.Value]; isKey && !slices.Contains(keys, k.Value) {
				c.report(document.Join(at, k.Value), document.CodeMeaning, "does not belong to check: "+ch.Check)
			}
		}
		if seen[ch.Check] && ch.Check != "invoke" {
			c.reportGot(at+".check", document.CodeDuplicate, "the check is made twice")
		}
		seen[ch.Check] = true
		switch ch.Check {
		case "capacity":
			if ch.Headroom == nil {
				h := Percent(defaultHeadroom)
				ch.Headroom = &h
				c.fill(at, "headroom", h.String(), document.OriginDefault)
			}
		case "ready":
			c.within(ch, at, defaultPatience)
		case "fresh-metrics":
			c.within(ch, at, defaultFreshFor)
		case "tags":
			if len(ch.Required) == 0 {
				c.report(at, document.CodeMissing, "names no tags").Hint = "add required: [owner]"
			}
		case "invoke":
			c.invoke(ch, at)
		}
	}
}

// within fills in how long a check allows where the policy does not say.
func (c *checker) within(ch *Check, at, otherwise string) {
	if c.policy.at[at+".within"] == nil {
		ch.Within, _ = document.ParseDuration(otherwise) // a constant
		c.fill(at, "within", otherwise, document.OriginDefault)
	}
}

var allCheckKeys = map[string]struct{}{"headroom": {}, "within": {}, "required": {}, "request": {}, "expect": {}}

func (c *checker) invoke(ch *Check, at string) {
	if ch.Request == nil {
		c.report(at, document.CodeMissing, "needs the request to send").Hint = "add request: {file: smoke/request.json}"
		return
	}
	if ch.Expect == nil {
		ch.Expect = &Expect{Status: 200}
	}
	if ch.Expect.Status < 100 || ch.Expect.Status > 599 {
		c.reportGot(at+".expect.status", document.CodeValue, "must be an HTTP status")
	}
	r := ch.Request
	if r.Method == "" {
		r.Method = "GET"
		if r.File != "" {
			r.Method = "POST"
		}
		c.fill(at+".request", "method", r.Method, document.OriginDefault)
	}
	if r.File != "" {
		c.file(r.File, at+".request.file")
	}
	if ch.Expect.Schema != "" {
		if data := c.file(ch.Expect.Schema, at+".expect.schema"); data != nil {
			c.jsonSchema(ch.Expect.Schema, data, at+".expect.schema")
		}
	}
}

// file reads a file that a policy names, relative to the file that names it.
func (c *checker) file(name, at string) []byte {
	dir := c.dir
	if file := c.policy.at[at].File(); file != "" {
		dir = path.Dir(file)
	}
	full := path.Join(dir, name)
	if path.IsAbs(name) || !fs.ValidPath(full) {
		c.reportGot(at, document.CodeFile, "must lie in the policy's folder or below it")
		return nil
	}
	data, err := document.ReadFile(c.fsys, full)
	if err != nil {
		c.reportGot(at, document.CodeFile, err.Error())
		return nil
	}
	if len(data) > document.MaxBytes {
		c.reportGot(at, document.CodeBounds, fmt.Sprintf("the file is larger than %d KiB", document.MaxBytes>>10))
		return nil
	}
	c.policy.files[name] = data
	return data
}

// jsonSchema checks that a schema is one and stands alone.
func (c *checker) jsonSchema(name string, data []byte, at string) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		c.reportGot(at, document.CodeFile, "is not JSON: "+err.Error())
		return
	}
	compiler := jsonschema.NewCompiler()
	compiler.UseLoader(noLoader{})
	const url = "belay:schema"
	if err := compiler.AddResource(url, doc); err != nil {
		c.reportGot(at, document.CodeFile, "is not a JSON Schema: "+err.Error())
		return
	}
	if _, err := compiler.Compile(url); err != nil {
		c.reportGot(at, document.CodeFile, "is not a JSON Schema: "+document.Shorten(err.Error()))
	}
}

// noLoader refuses to load what a schema refers to elsewhere.
type noLoader struct{}

func (noLoader) Load(url string) (any, error) {
	return nil, fmt.Errorf("a schema stands alone and may not refer to %s", url)
}
