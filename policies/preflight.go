package policies

import (
	"bytes"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

const (
	defaultHeadroom = 30
	defaultFreshFor = "5m"
)

// checkKeys are the keys that each check takes besides check.
var checkKeys = map[string][]string{
	"ready":             nil,
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
		for _, k := range c.policy.at[at].keys {
			if _, isKey := allCheckKeys[k.value]; isKey && !slices.Contains(keys, k.value) {
				c.report(join(at, k.value), CodeMeaning, "does not belong to check: "+ch.Check)
			}
		}
		if seen[ch.Check] && ch.Check != "invoke" {
			c.reportGot(at+".check", CodeDuplicate, "the check is made twice")
		}
		seen[ch.Check] = true
		switch ch.Check {
		case "capacity":
			if ch.Headroom == nil {
				h := Percent(defaultHeadroom)
				ch.Headroom = &h
				c.fill(at, "headroom", h.String(), originDefault)
			}
		case "fresh-metrics":
			if c.policy.at[at+".within"] == nil {
				ch.Within, _ = parseDuration(defaultFreshFor) // a constant
				c.fill(at, "within", defaultFreshFor, originDefault)
			}
		case "tags":
			if len(ch.Required) == 0 {
				c.report(at, CodeMissing, "names no tags").Hint = "add required: [owner]"
			}
		case "invoke":
			c.invoke(ch, at)
		}
	}
}

var allCheckKeys = map[string]struct{}{"headroom": {}, "within": {}, "required": {}, "request": {}, "expect": {}}

func (c *checker) invoke(ch *Check, at string) {
	if ch.Request == nil {
		c.report(at, CodeMissing, "needs the request to send").Hint = "add request: {file: smoke/request.json}"
		return
	}
	if ch.Expect == nil {
		ch.Expect = &Expect{Status: 200}
	}
	if ch.Expect.Status < 100 || ch.Expect.Status > 599 {
		c.reportGot(at+".expect.status", CodeValue, "must be an HTTP status")
	}
	r := ch.Request
	if r.Method == "" {
		r.Method = "GET"
		if r.File != "" {
			r.Method = "POST"
		}
		c.fill(at+".request", "method", r.Method, originDefault)
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
	if file := c.policy.at[at].file(); file != "" {
		dir = path.Dir(file)
	}
	full := path.Join(dir, name)
	if path.IsAbs(name) || !fs.ValidPath(full) {
		c.reportGot(at, CodeFile, "must lie in the policy's folder or below it")
		return nil
	}
	data, err := readFile(c.fsys, full)
	if err != nil {
		c.reportGot(at, CodeFile, err.Error())
		return nil
	}
	if len(data) > MaxBytes {
		c.reportGot(at, CodeBounds, fmt.Sprintf("the file is larger than %d KiB", MaxBytes>>10))
		return nil
	}
	c.policy.files[name] = data
	return data
}

// jsonSchema checks that a schema is one and stands alone.
func (c *checker) jsonSchema(name string, data []byte, at string) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		c.reportGot(at, CodeFile, "is not JSON: "+err.Error())
		return
	}
	compiler := jsonschema.NewCompiler()
	compiler.UseLoader(noLoader{})
	const url = "belay:schema"
	if err := compiler.AddResource(url, doc); err != nil {
		c.reportGot(at, CodeFile, "is not a JSON Schema: "+err.Error())
		return
	}
	if _, err := compiler.Compile(url); err != nil {
		c.reportGot(at, CodeFile, "is not a JSON Schema: "+shorten(err.Error()))
	}
}

// noLoader refuses to load what a schema refers to elsewhere.
type noLoader struct{}

func (noLoader) Load(url string) (any, error) {
	return nil, fmt.Errorf("a schema stands alone and may not refer to %s", url)
}
