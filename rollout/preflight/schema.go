package preflight

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// A schema judges an answer.
type schema struct{ compiled *jsonschema.Schema }

// compile reads a JSON Schema that stands alone: nothing is loaded from
// anywhere. No text is no schema.
func compile(text []byte) (*schema, error) {
	if len(text) == 0 {
		return nil, nil
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("read schema: %w", err)
	}
	const name = "belay:answer"
	c := jsonschema.NewCompiler()
	c.UseLoader(noLoader{})
	if err := c.AddResource(name, doc); err != nil {
		return nil, fmt.Errorf("read schema: %w", err)
	}
	compiled, err := c.Compile(name)
	if err != nil {
		return nil, fmt.Errorf("compile schema: %w", err)
	}
	return &schema{compiled: compiled}, nil
}

// noLoader refuses to load what a schema refers to elsewhere.
type noLoader struct{}

// Load implements jsonschema.URLLoader.
func (noLoader) Load(url string) (any, error) {
	return nil, fmt.Errorf("load %s: a schema stands alone", url)
}

// validate says where an answer is not what the schema says, and by which
// keyword; never what the answer says there.
func (s *schema) validate(answer []byte) error {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(answer))
	if err != nil {
		return errors.New("the answer is not JSON")
	}
	err = s.compiled.Validate(doc)
	if err == nil {
		return nil
	}
	var invalid *jsonschema.ValidationError
	if !errors.As(err, &invalid) {
		return errors.New("the answer cannot be judged by the schema")
	}
	var places []string
	collect(invalid, &places)
	const most = 3
	if len(places) > most {
		places = append(places[:most], fmt.Sprintf("and %d more", len(places)-most))
	}
	return fmt.Errorf("the answer is not what the schema says: %s", strings.Join(places, ", "))
}

// collect gathers the innermost failures as "/scores/0 (type)".
func collect(e *jsonschema.ValidationError, places *[]string) {
	for _, cause := range e.Causes {
		collect(cause, places)
	}
	if len(e.Causes) == 0 {
		at := "/" + strings.Join(e.InstanceLocation, "/")
		*places = append(*places, fmt.Sprintf("%s (%s)", at, strings.Join(e.ErrorKind.KeywordPath(), "/")))
	}
}
