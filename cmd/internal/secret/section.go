package secret

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Section reads a section http: (prometheus/common's HTTPClientConfig) and returns
// it with the values of the environment in the place of every ${env:NAME}. field is
// where it stands, which every error begins with.
func Section(field, text string) (string, error) {
	resolved, _, err := section(field, text, true)
	return resolved, err
}

// inline are the keys of an HTTPClientConfig whose values are secrets.
var inline = []string{"password", "credentials", "client_secret", "client_certificate_key", "bearer_token", "key",
	"secrets", "proxy_connect_header"}

// telling are names of headers and parameters that hold secrets; what is under them
// counts as one.
var telling = regexp.MustCompile(`(?i)auth|cookie|key|pass|secret|token|assertion|credential|signature`)

// A sectionReader goes through one section.
type sectionReader struct {
	// resolve: the values of the environment are put in.
	resolve  bool
	mentions []Mention
	errs     []error
}

func section(field, text string, resolve bool) (string, []Mention, error) {
	if text == "" {
		return "", nil, nil
	}
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil || len(doc.Content) != 1 {
		return "", nil, fmt.Errorf("%s: it cannot be read as YAML", field) // unreachable: it was read and written before
	}
	r := &sectionReader{resolve: resolve}
	r.node(field, "", doc.Content[0], false)
	if err := errors.Join(r.errs...); err != nil || !resolve {
		return "", r.mentions, err
	}
	out, err := yaml.Marshal(&doc)
	if err != nil {
		return "", nil, fmt.Errorf("%s: it cannot be written as YAML", field)
	}
	return string(out), r.mentions, nil
}

// node goes through n, which stands at field under the key; hidden: what stands
// there is a secret.
func (r *sectionReader) node(field, key string, n *yaml.Node, hidden bool) {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			k := n.Content[i].Value
			free := slices.Contains([]string{"http_headers", "endpoint_params", "claims", "proxy_connect_header"}, key)
			r.node(join(field, k), k, n.Content[i+1], hidden && k != "files" || slices.Contains(inline, k) ||
				free && telling.MatchString(k))
		}
	case yaml.SequenceNode:
		for i, item := range n.Content {
			r.node(fmt.Sprintf("%s[%d]", field, i), key, item, hidden)
		}
	case yaml.ScalarNode:
		r.scalar(field, key, n, hidden)
	case yaml.DocumentNode, yaml.AliasNode: // neither is part of the language
	}
}

func (r *sectionReader) scalar(field, key string, n *yaml.Node, hidden bool) {
	switch {
	case n.Value == "":
	case IsEnv(n.Value):
		r.put(field, n)
	case strings.HasSuffix(key, "_file") || key == "files":
		r.mentions = append(r.mentions, Mention{Field: field, File: n.Value, Public: slices.Contains(public, key),
			Section: true})
	case hidden:
		r.errs = append(r.errs,
			fmt.Errorf("%s: a secret stands in the config; name a file that holds it (%s), or ${env:NAME}", field, fileKey(key)))
	case passwordInAddress(n.Value):
		r.errs = append(r.errs, fmt.Errorf("%s: an address holds a password; write the whole address as ${env:NAME}", field))
	}
}

// put replaces ${env:NAME} by what it stands for.
func (r *sectionReader) put(field string, n *yaml.Node) {
	if !r.resolve {
		return
	}
	v, err := Env(n.Value)
	if err != nil {
		r.errs = append(r.errs, fmt.Errorf("%s: %w", field, err))
		return
	}
	n.Value, n.Tag, n.Style = v.Reveal(), "!!str", yaml.DoubleQuotedStyle
}

// fileKey is the key that names a file in the place of a secret.
func fileKey(key string) string {
	switch key {
	case "secrets", "values":
		return "files"
	case "password", "credentials", "client_secret", "client_certificate_key", "bearer_token", "key":
		return key + "_file"
	}
	return "…_file"
}
